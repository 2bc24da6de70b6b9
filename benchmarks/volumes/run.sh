#!/bin/sh
# The studies of PLAN.md: sh benchmarks/volumes/run.sh OUT PART, from the repository. The same line resumes.
#   main     the confirmatory part: scratch and Models Genesis on one U-Net at 4 volumes
#   doubled  the same pre-training for twice the steps
#   full     exploratory: all volumes, for more steps
#   curve    exploratory: the budgets between
#   others   exploratory: dae and spark on the same U-Net, mae on a transformer
#   adrenal  exploratory: volumes to classify
# RATE and DECODER are what pilot.py decided.
set -eu
out=$1 part=$2 data=${DATA:-../shared/data}
study() { medprior run "$@" --out "$out/$part" --set study.threads=1; }
outlines() {
    study "$data/msd-task04-hippocampus" --size 32 --set adapt.crops=4 --set adapt.overlap=0.25 --set "adapt.outline_rate=$RATE" \
        --set "adapt.decoder=$DECODER" --set adapt.steps=200 "$@"
}
case $part in
main)    outlines --methods genesis --backbone unet_8 --budgets 4 --seeds 10 --set pretrain.seeds=3 --set pretrain.steps=300 ;;
doubled) outlines --methods genesis --backbone unet_8 --budgets 4 --seeds 10 --set pretrain.seeds=3 --set pretrain.steps=600 ;;
full)    outlines --methods genesis --backbone unet_8 --budgets all --seeds 3 --set pretrain.steps=300 --set adapt.steps=1500 ;;
curve)   outlines --methods genesis --backbone unet_8 --budgets 2,8,16,64 --seeds 3 --set pretrain.steps=300 ;;
others)  outlines --set "pretrain.arms=[dae@unet_8, spark@unet_8, mae@vit_micro_patch8]" --budgets 4,16,all --seeds 3 --set pretrain.steps=300 ;;
adrenal) study "$data/adrenalmnist3d_64" --size 32 --methods simclr,mae --budgets 20,100,all --seeds 3 --minutes 60 ;;
*)       echo "part is main, doubled, full, curve, others or adrenal" >&2; exit 2 ;;
esac
