#!/bin/sh
set -e
python train.py
freezeinspect check checkpoint.pt --policy freeze.toml
