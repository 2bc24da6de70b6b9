"""The model that a study leaves behind, its card, and its use on new scans."""
