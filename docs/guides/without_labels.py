# %% [markdown]
# # Without labels
#
# You have a trained model file and some images like those it will see, and neither
# labels nor a training script. One command makes the network smaller; what it gives is
# measured against what the dense network gives. The page needs
# `pip install pgmpf_tf scikit-learn`.
#
# ## A file and a folder
#
# Somebody trained this network. What is left of that: the file, and images as PNG.

# %%
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

keras.utils.set_random_seed(0)
images, numbers = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) * 16).clip(0, 255).astype("float32")
x_train, x_test = images[:1300], images[1300:]
network = [keras.Input((8, 8, 1), name="image"), layers.Rescaling(1 / 255)]
for filters in (24, 48):
    network += [
        layers.Conv2D(filters, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.MaxPooling2D(),
    ]
network += [layers.Flatten(), layers.Dense(10, activation="softmax", name="digit")]
trained = keras.Sequential(network, name="digits")
trained.compile("adam", "sparse_categorical_crossentropy")
trained.fit(x_train, numbers[:1300], batch_size=32, epochs=10, verbose=0)
trained.save("model.keras")
Path("photos").mkdir(exist_ok=True)
for index, image in enumerate(x_train[:600]):
    keras.utils.save_img(f"photos/{index}.png", image, scale=False)

# %% [markdown]
# ## One command
#
# Half of the multiply-accumulates shall go. `--minutes` bounds how long the small
# network may learn: a tenth here, five by default. If the command is interrupted, the
# same command goes on where it was.

# %%
command = (
    "-m pgmpf_tf prune model.keras --images photos --budget macs=0.5 --output pruned "
    "--minutes 0.1"
)
done = subprocess.run(
    [sys.executable, *command.split()], check=True, capture_output=True, text=True
)
print(done.stdout)

# %% [markdown]
# What it does, in order:
#
# 1. It finds out in which range the network wants its pixels, and says how it knows.
# 2. It measures, filter by filter and group by group, how far the outputs move without
#    them, and spends the budget where that is least for what is saved.
# 3. It fits the kernels that are left to what the dense network's layers give, by least
#    squares.
# 4. The small network learns to give what the dense one gives.
# 5. It exports both, verifies the files, and writes a report: `pruned/report.html`.
#
# A tenth of the images says when learning is best, a fifth is held out for the figures
# above. No label was used.

# %%
print(*sorted(str(path) for path in Path("pruned").rglob("*") if path.is_file()))

# %% [markdown]
# ## With labels, if there are some
#
# Agreement with the dense network is what can be known without labels. Here are some,
# to look behind it:

# %%
small = keras.models.load_model("pruned/small.keras")
for name, model in {"dense": trained, "small": small}.items():
    classes = model.predict(x_test, verbose=0).argmax(axis=1)
    print(f"{name}: accuracy {np.mean(classes == numbers[1300:]):.1%}")

# %% [markdown]
# ## For scripts
#
# `--json` prints the figures for machines; the exit status is 0 only if all files are
# verified. In Python it is one function, `pgmpf_tf.prune(model, "photos", "pruned")`.
# With `--quantize=int8` a file that has the top class of its network on less than 0.9
# of the held-out images is refused; the command with `--min_agreement=0.8` goes on from
# there. Data that are no images come as `--data samples.npz`, an array per input.

# %%
done = subprocess.run(
    [sys.executable, "-m", "pgmpf_tf", "profile", "pruned/small.keras", "--json"],
    check=True,
    capture_output=True,
    text=True,
)
print(json.loads(done.stdout)["macs"])
