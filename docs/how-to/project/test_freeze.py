from network import Network, freeze
from train import optimizer_of, train

import freezeinspect as fi


def test_the_backbone_is_frozen_and_the_rest_trains():
    model = Network()
    freeze(model)
    fi.assert_frozen(model, "backbone")
    fi.assert_trainable(model, "neck", "head", optimizer=optimizer_of(model))


def test_the_state_is_the_one_that_was_reviewed(freeze_policy):
    model = Network()
    freeze(model)
    freeze_policy(model, optimizer_of(model))


def test_training_moves_no_frozen_weight_and_no_frozen_statistic(freeze_watch):
    model = Network()
    freeze(model)
    optimizer = optimizer_of(model)
    with freeze_watch(model, optimizer, fail_on=["FI301", "FI302", "FI304"]):
        train(model, optimizer)
