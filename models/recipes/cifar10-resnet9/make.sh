#!/usr/bin/env bash
# Make the embedded bundle from image folders:
#
#     models/recipes/cifar10-resnet9/make.sh DATA WORK BUNDLE
#
# DATA     cifar10/{train,test}/<class>/*.png, cifar100/test/<class>/*.png, ood/{textures,places,omniglot}/*.png
# WORK     receives the weights, the training record and the images held out for calibration
# BUNDLE   receives the bundle
set -euo pipefail
data=$1 work=$2 bundle=$3
here=$(dirname "$0")

python "$here/train.py" --data "$data/cifar10" --out "$work"
oodgate export resnet9 --weights "$work/weights.safetensors" --classes "$work/classes.json" \
    --provenance "$work/training.json" --out "$bundle" --name cifar10-resnet9 --version 1
oodgate calibrate "$bundle" --id "$work/held-out" --check-precision bfloat16
oodgate evaluate "$bundle" --id "$data/cifar10/test" --save \
    --ood cifar100="$data/cifar100/test" --ood textures="$data/ood/textures" \
    --ood places="$data/ood/places" --ood omniglot="$data/ood/omniglot"
