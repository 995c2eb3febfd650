# %% [markdown]
# # A segmentation network
#
# Pixel by pixel, networks are pruned as classifiers are: skip connections and upsampled
# branches are followed like everything else. This page makes scenes of handwritten
# digits, trains a small U-Net on them, and compares the intersection over union (IoU)
# before and after. It needs `pip install pgmpf_tf scikit-learn`.

# %%
import keras
import numpy as np
import rich
from keras import layers
from sklearn.datasets import load_digits

import pgmpf_tf

keras.utils.set_random_seed(0)
digits, numbers = load_digits(return_X_y=True)
digits = digits.reshape(-1, 8, 8) / 16

# %% [markdown]
# ## Scenes
#
# Three digits on a noisy canvas of 24x24 pixels. What is to be told is the class of
# each pixel: background, a digit below 5, or one from 5 on. Scenes to test on are made
# of other digits than those to train on.


# %%
def scenes(count, digits, numbers, seed):
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 0.2, (count, 24, 24, 1)).astype("float32")
    classes = np.zeros((count, 24, 24), "int32")
    for image, target in zip(images, classes, strict=True):
        for _ in range(3):
            row, column = generator.integers(0, 17, 2)
            place = slice(row, row + 8), slice(column, column + 8)
            index = generator.integers(len(digits))
            ink = digits[index]
            image[place][..., 0] = np.maximum(image[place][..., 0], ink)
            target[place][ink > 0.3] = 1 + (numbers[index] >= 5)
    return images, classes


x_train, y_train = scenes(600, digits[:1300], numbers[:1300], seed=1)
x_test, y_test = scenes(200, digits[1300:], numbers[1300:], seed=2)

# %% [markdown]
# ## A U-Net


# %%
def block(x, filters, name):
    for part in "ab":
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=False, name=f"{name}{part}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return x


image = keras.Input((24, 24, 1), name="scene")
fine = block(image, 12, "fine")
middle = block(layers.MaxPooling2D()(fine), 24, "middle")
x = block(layers.MaxPooling2D()(middle), 48, "coarse")
x = layers.Concatenate()([middle, layers.UpSampling2D()(x)])
x = block(x, 24, "up_middle")
x = layers.Concatenate()([fine, layers.UpSampling2D()(x)])
x = block(x, 12, "up_fine")
dense = keras.Model(image, layers.Conv2D(3, 1, name="classes")(x), name="unet")


def fit(model, epochs, learning_rate):
    steps = epochs * -(-len(x_train) // 16)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x_train, y_train, batch_size=16, epochs=epochs, verbose=0)


def iou(model):
    metric = keras.metrics.MeanIoU(3, sparse_y_pred=False)
    metric.update_state(y_test, model.predict(x_test, verbose=0))
    return float(metric.result())


fit(dense, 8, 0.005)
print(f"mean IoU {iou(dense):.3f}")

# %% [markdown]
# ## Half of the work
#
# `Budget(macs=0.5)` takes half of the multiply-accumulates away. Filters of `fine` and
# of the branch that is upsampled sit side by side in a Concatenate, and go one by one:
# what reads them loses just these channels.

# %%
before = iou(dense)
model = pgmpf_tf.wrap(dense, pgmpf_tf.Budget(macs=0.5), seed=0)
fit(model, 8, 0.005)
small = pgmpf_tf.compact(model)
model.pruning_summary()

# %% [markdown]
# ## What was gained

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
