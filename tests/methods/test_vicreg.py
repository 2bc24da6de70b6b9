import torch

from medprior.backbones.factory import create_encoder
from medprior.methods.factory import create_method
from medprior.methods.method import Batch, Clock, DataFacts
from medprior.methods.vicreg import VICReg
from medprior.objectives.redundancy import vicreg
from medprior.views.view import View


def test_the_loss_is_its_weighted_terms_and_each_is_told() -> None:
    facts = DataFacts(10, 1, 2, 32, (0.5,), (0.25,))
    overrides = {"projection": (24, 16), "invariance": 2.0, "variance": 3.0, "covariance": 5.0}
    method = create_method("vicreg", create_encoder("test_resnet", 1, 2, 32), overrides=overrides, facts=facts).eval()
    assert isinstance(method, VICReg)
    valid, affine = torch.ones(6, 1, 32, 32, dtype=torch.bool), torch.eye(2, 3).expand(6, -1, -1)
    views = [View(torch.rand(6, 1, 32, 32), valid, affine) for _ in range(2)]
    found = method(views, Batch(torch.arange(6), 0, Clock(0, 8)))
    terms = vicreg(*(method.projector(method.embed(view.pixels)) for view in views))
    torch.testing.assert_close(found["loss"], 2 * terms.invariance + 3 * terms.variance + 5 * terms.covariance)
    for name, term in terms._asdict().items():
        torch.testing.assert_close(found[name], term)
        assert term > 0 and not found[name].requires_grad
    assert found["loss"].requires_grad
