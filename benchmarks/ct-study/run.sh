#!/bin/sh
# The CT study of PLAN.md: sh benchmarks/ct-study/run.sh OUT PART, from the repository. The same line resumes.
#   main     the confirmatory part: scratch, SimCLR and SparK on one CNN
#   doubled  the same pre-training for twice the steps, probes alone: is a method trained for long enough to be judged?
#   arms     exploratory: MoCo v2, BYOL and SwAV on the same CNN; MAE and SimCLR on a ViT
#   mr       exploratory: scratch, SimCLR and SparK on the MR slices
# One thread per training, so that two parts can run side by side on two cores.
set -eu
out=$1 part=$2
cnn=regnetx_002
BUDGETS=${BUDGETS:-48,96,all}
study() { recipe=$1; shift; medprior compare "recipes/$recipe.yaml" --out "$out/$part" --size 96 --set study.threads=1 --set "study.workers=${WORKERS:-1}" "$@"; }
case $part in
main)    study ct-study --budgets "$BUDGETS" --set "pretrain.arms=[simclr@$cnn, spark@$cnn]" \
             --set pretrain.steps=300 --set adapt.steps=150 ;;
doubled) study ct-study --budgets "$BUDGETS" --set "pretrain.arms=[simclr@$cnn, spark@$cnn]" \
             --set pretrain.steps=600 --set adapt.steps=2 --set "adapt.adaptations=[probe]" ;;
arms)    study ct-study --budgets "$BUDGETS" --seeds 3 --set pretrain.seeds=1 --set pretrain.steps=300 --set adapt.steps=150 \
             --set "pretrain.arms=[moco@$cnn, byol@$cnn, swav@$cnn, mae@vit_micro_patch8, simclr@vit_micro_patch8]" ;;
mr)      study mr-study --seeds 3 --set pretrain.seeds=1 --set pretrain.steps=300 --set adapt.steps=150 \
             --set "pretrain.arms=[simclr@$cnn, spark@$cnn]" ;;
*)       echo "part is main, doubled, arms or mr" >&2; exit 2 ;;
esac
