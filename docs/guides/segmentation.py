# %% [markdown]
# # A segmentation network
#
# Pixel by pixel, networks are pruned as classifiers are: attention heads, pyramids and
# upsampled branches are followed like everything else. This page makes scenes of
# handwritten digits, trains KerasHub's SegFormer on them, and compares the
# intersection over union (IoU) before and after. It needs
# `pip install pgmpf_tf keras-hub scikit-learn`.

# %%
import keras
import keras_hub
import numpy as np
import rich
from sklearn.datasets import load_digits

import pgmpf_tf

keras.utils.set_random_seed(0)
digits = load_digits().data.reshape(-1, 8, 8) / 16

# %% [markdown]
# ## Scenes
#
# Three digits on a noisy canvas of 48x48 pixels, and a bar as bright as they are, which
# is none. What is to be told of each pixel is whether it belongs to a digit. Scenes to
# test on are made of other digits than those to train on.


# %%
def scenes(count, digits, seed):
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 0.2, (count, 48, 48, 3)).astype("float32")
    classes = np.zeros((count, 48, 48), "int32")
    for image, target in zip(images, classes, strict=True):
        row, column = generator.integers(0, 45, 2)
        image[row : row + 3, max(column - 16, 0) : column + 16] = 0.8
        for _ in range(3):
            row, column = generator.integers(0, 33, 2)
            place = slice(row, row + 16), slice(column, column + 16)
            ink = digits[generator.integers(len(digits))]
            ink = ink.repeat(2, axis=0).repeat(2, axis=1)
            image[place] = np.maximum(image[place], ink[..., None])
            target[place][ink > 0.3] = 1
    return images, classes


x_train, y_train = scenes(600, digits[:1300], seed=1)
x_test, y_test = scenes(200, digits[1300:], seed=2)

# %% [markdown]
# ## SegFormer
#
# Yours is `SegFormerImageSegmenter.from_preset(...)`, with the weights that it
# downloads; here is a small one. Like all of KerasHub's models it is made of layers
# within layers, which are opened.

# %%
encoder = keras_hub.models.MiTBackbone(
    image_shape=(48, 48, 3),
    num_layers=3,
    layerwise_depths=[1, 1, 1],
    layerwise_num_heads=[2, 2, 4],
    layerwise_sr_ratios=[4, 2, 1],
    layerwise_patch_sizes=[7, 3, 3],
    layerwise_strides=[4, 2, 2],
    hidden_dims=[16, 24, 32],
    max_drop_path_rate=0.0,
)
backbone = keras_hub.models.SegFormerBackbone(encoder, projection_filters=24)
dense = keras_hub.models.SegFormerImageSegmenter(backbone, num_classes=2)


def fit(model, epochs, learning_rate):
    steps = epochs * -(-len(x_train) // 16)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=16, epochs=epochs, verbose=0)


def iou(model):
    metric = keras.metrics.MeanIoU(2, sparse_y_pred=False)
    metric.update_state(y_test, model.predict(x_test, verbose=0))
    return float(metric.result())


fit(dense, 8, 0.003)
print(f"mean IoU {iou(dense):.3f}")

# %% [markdown]
# ## Half of the work
#
# `Budget(macs=0.5)` takes half of the multiply-accumulates away: heads, neurons of the
# blocks between them, and channels of the streams. The three levels of the pyramid sit
# side by side in a Concatenate, and what reads them loses just the channels that go.

# %%
before = iou(dense)
model = pgmpf_tf.wrap(dense, pgmpf_tf.Budget(macs=0.5), seed=0)
fit(model, 8, 0.003)
small = pgmpf_tf.compact(model)
model.pruning_summary()

# %% [markdown]
# ## What was gained
#
# The small network has trained for eight epochs more than the dense one, as usual when
# one is pruned.

# %%
costs = [
    pgmpf_tf.profile(network) for network in (keras.models.clone_model(dense), small)
]
exports = pgmpf_tf.export(
    small, "artifacts", "tflite", verification_data=x_test, verbose=False
)
rich.print(exports)
for name, cost, quality in zip(
    ("dense", "small"), costs, (before, iou(small)), strict=True
):
    print(f"{name}: {cost.macs:,} MACs, {cost.params:,} parameters, IoU {quality:.3f}")
