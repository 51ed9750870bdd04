"""The same work with PyTorch, ONNX Runtime, Keras and tf.data, each in its fastest form; imports nothing of alljax."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import workload
from workers import Clock, Run
from workload import Sizes

CORES = len(os.sched_getaffinity(0))
SCALING = {"efficientnet_lite0": ([127.0] * 3, [128.0] * 3)}
IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
"""Mean and standard deviation of the pixels, 0 to 255."""


def torch_network(backbone: str) -> Any:
    """Returns a network of torchvision or timm: uint8 (B, S, S, 3) → average pooled features; weights are seeded."""
    import torch
    import torchvision

    def body() -> tuple[Any, Callable[[Any], Any]]:
        if backbone == "vgg16":
            vgg = torchvision.models.vgg16()
            vgg.classifier = torch.nn.Identity()
            return vgg, vgg.features
        if backbone.startswith("resnet"):
            resnet = getattr(torchvision.models, backbone)()
            resnet.fc = torch.nn.Identity()
            return resnet, torch.nn.Sequential(*list(resnet.children())[:-2])
        if backbone == "mobilenet_v2":
            mobilenet = torchvision.models.mobilenet_v2()
            mobilenet.classifier = torch.nn.Identity()
            return mobilenet, mobilenet.features
        import timm

        lite = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        return lite, lite.forward_features

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.apply_body = body()
            mean, deviation = (torch.tensor(numbers) for numbers in SCALING.get(backbone, IMAGENET))
            self.register_buffer("mean", mean, persistent=False)
            self.register_buffer("deviation", deviation, persistent=False)

        def forward(self, images: Any) -> Any:  # NHWC in memory is what torch calls channels last
            scaled = ((images.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)
            return self.apply_body(scaled).mean((2, 3))

    network = Features()
    tensors = [tensor for name, tensor in network.body.state_dict().items() if "num_batches" not in name]
    for tensor, array in zip(tensors, workload.weights(backbone).values(), strict=True):
        tensor.copy_(torch.from_numpy(array))
    return network.to(memory_format=torch.channels_last)


def batched(sizes: Sizes, compute: Callable[[np.ndarray], Any]) -> Run:
    """Returns the work of computing the features of all images, a batch at a time."""
    images = workload.pixels(sizes.images + 2 * sizes.batch, sizes.image_size)[: sizes.images]

    def run(clock: Clock) -> tuple[int, Any]:
        outputs = [
            np.asarray(compute(images[first : first + sizes.batch])) for first in range(0, len(images), sizes.batch)
        ]
        return len(images), np.concatenate(outputs)

    return run


def torch_features(sizes: Sizes, backbone: str) -> Run:
    import torch

    network = torch_network(backbone).eval()

    def compute(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(images))

    return batched(sizes, compute)


def onnx_features(sizes: Sizes, backbone: str) -> Run:
    import onnxruntime
    import torch

    example = torch.from_numpy(workload.pixels(sizes.batch, sizes.image_size))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(torch_network(backbone).eval(), (example,), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return batched(sizes, lambda images: session.run(None, {name: images})[0])


def torch_head(width: int) -> Any:
    """Returns the paper's head."""
    from torch import nn

    return nn.Sequential(nn.Linear(width, workload.HIDDEN), nn.ReLU(), nn.Linear(workload.HIDDEN, 2))


def torch_optimizer(model: Any, optimizer: str) -> Any:
    """Returns the fastest form: Adam is fused; RMSprop has no fused form, and foreach is slower on a CPU."""
    import torch

    if optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=workload.RATE, eps=1e-7, fused=True)
    return torch.optim.RMSprop(model.parameters(), lr=workload.RATE, alpha=0.9, eps=1e-7)


def torch_heads(sizes: Sizes, width: int, optimizer: str, count: int, device: str = "cpu") -> Run:
    """One head after the other, with curves and the learning rates of the paper."""
    import torch
    from torch.nn import functional

    matrix = torch.from_numpy(workload.features(sizes.cells, width)).to(device)
    labels = torch.from_numpy(workload.labels(sizes.cells)).long().to(device)
    training, test = (torch.from_numpy(rows).to(device) for rows in workload.split(sizes))

    def epoch(model: Any, stepper: Any, schedule: Any) -> None:
        total, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        for rows in training[torch.randperm(len(training), device=device)].split(workload.BATCH):
            stepper.zero_grad()
            logits = model(matrix[rows])
            loss = functional.cross_entropy(logits, labels[rows])
            loss.backward()
            stepper.step()
            schedule.step()
            total += loss.detach() * len(rows)
            correct += (logits.argmax(1) == labels[rows]).sum()
        with torch.inference_mode():
            logits = model(matrix[test])
            functional.cross_entropy(logits, labels[test])
            (logits.argmax(1) == labels[test]).sum().item()

    def run(clock: Clock) -> tuple[int, Any]:
        for _ in range(count):
            model = torch_head(width).to(device)
            stepper = torch_optimizer(model, optimizer)
            schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, workload.DECAY ** (1 / workload.DECAY_STEPS))
            for _ in range(sizes.epochs):
                epoch(model, stepper, schedule)
        return count * sizes.epochs * workload.steps(sizes), None

    return run


def torch_finetune(sizes: Sizes, backbone: str) -> Run:
    import torch

    width = workload.WIDTHS.get(backbone, 1280)
    model = (
        torch.nn.Sequential(torch_network(backbone), torch_head(width)).to(memory_format=torch.channels_last).train()
    )
    stepper = torch_optimizer(model, "adam")
    images = torch.from_numpy(workload.pixels(sizes.batch, sizes.image_size))
    labels = torch.from_numpy(workload.labels(sizes.batch)).long()

    def run(clock: Clock) -> tuple[int, Any]:
        stepper.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        stepper.step()
        loss.item()
        return 1, None

    return run


def torch_data(sizes: Sizes, folder: str, antialias: bool) -> Run:
    """The DataLoader with a process per core; Pillow resizes as in torchvision, which always antialiases."""
    import torch
    from PIL import Image

    assert antialias

    class Files(torch.utils.data.Dataset):
        paths = sorted(Path(folder).glob("*.bmp"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            resized = Image.open(self.paths[index]).convert("RGB").resize(
                (sizes.image_size, sizes.image_size), Image.Resampling.BILINEAR
            )  # fmt: skip
            return torch.from_numpy(np.array(resized))

    loader = torch.utils.data.DataLoader(Files(), workload.BATCH, num_workers=CORES, persistent_workers=True)

    def run(clock: Clock) -> tuple[int, Any]:
        batches = list(loader)
        return len(Files.paths), batches[0].numpy() / np.float32(255)

    return run


def tf_data(sizes: Sizes, folder: str, antialias: bool) -> Run:
    import tensorflow as tf

    shape, ahead = (sizes.image_size, sizes.image_size), tf.data.AUTOTUNE
    paths = [str(path) for path in sorted(Path(folder).glob("*.bmp"))]

    def read(path: Any) -> Any:
        return tf.image.resize(tf.io.decode_bmp(tf.io.read_file(path), 3), shape, antialias=antialias)

    files = tf.data.Dataset.from_tensor_slices(paths).map(read, ahead).batch(workload.BATCH).prefetch(ahead)

    def run(clock: Clock) -> tuple[int, Any]:
        batches = list(files)
        return len(paths), batches[0].numpy() / np.float32(255)

    return run


def keras_network(backbone: str, size: int) -> Any:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    make = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[backbone]
    return make(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg")


def keras_features(sizes: Sizes, backbone: str) -> Run:
    """VGG16 only: Keras's ResNet50 is another network, which has its strides in other layers."""
    network = keras_network(backbone, sizes.image_size)
    import tensorflow as tf

    arrays = workload.weights(backbone).values()
    network.set_weights([array.transpose(2, 3, 1, 0) if array.ndim == 4 else array for array in arrays])
    mean, deviation = IMAGENET
    graph = tf.function(lambda images: network((tf.cast(images, tf.float32) - mean) / deviation, training=False))
    return batched(sizes, lambda images: graph(tf.constant(images)))


def keras_fit(sizes: Sizes, backbone: str, validation: bool) -> Run:
    """An epoch of `fit` with the frozen backbone inside, or the pass over the validation images that follows it."""
    base = keras_network(backbone, sizes.image_size)
    import keras

    base.trainable = False
    dense = keras.layers.Dense
    model = keras.Sequential([base, dense(workload.HIDDEN, activation="relu"), dense(2, activation="softmax")])
    rate = keras.optimizers.schedules.ExponentialDecay(workload.RATE, workload.DECAY_STEPS, workload.DECAY)
    model.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
    images = workload.pixels(sizes.images, sizes.image_size).astype(np.float32) / 255
    classes = np.eye(2, dtype=np.float32)[workload.labels(sizes.images)]

    class Start(keras.callbacks.Callback):
        """Leaves out the fixed costs of a call of `fit`."""

        clock: Clock

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.clock.start()

        def on_test_begin(self, logs: object = None) -> None:
            self.clock.start()

    start = Start()

    def run(clock: Clock) -> tuple[int, Any]:
        start.clock = clock
        call = model.evaluate if validation else model.fit
        call(images, classes, batch_size=workload.BATCH, verbose=0, callbacks=[start])
        return sizes.images, None

    return run


WORKS: dict[str, dict[str, Callable[..., Run]]] = {
    "torch": {"features": torch_features, "heads": torch_heads, "data": torch_data, "finetune": torch_finetune},
    "onnxruntime": {"features": onnx_features},
    "keras": {"features": keras_features, "fit": keras_fit},
    "tensorflow": {"data": tf_data},
}
"""Functions by the package that they need and by kind of work."""
