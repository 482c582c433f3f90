"""Linear inverse problems on one prior: `wavdiff restore` beside DeepInverse's solvers and methods without a prior.

    python benchmarks/inverse_problems.py --out restored

On the centres of four photographs that ship with scikit-image (or of the pictures of --folder): JPEG files, 10 % of the
pixels, a hole of 20x20, Gaussian blur of 2 pixels with noise 2/255, a picture reduced 4 times by Pillow's bicubic
filter (8 bits), and Fourier coefficients, low ones more often. PSNR and SSIM of results limited to [0, 1], 8 pixels
from the border left out (16 where the border was blurred away); calls of the denoiser; seconds.

Ours are `moments`, `splitting`, and with --draws `draw` and `ascent`. DiffPIR and DDRM are DeepInverse's, with 20 calls
of the same prior through `adapters.deepinv.CascadeDenoiser`; its DPS needs gradients through the prior, which that
refuses. Without a prior: biharmonic inpainting, Richardson and Lucy (scikit-image), bicubic enlargement.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from empty_torchvision import torchvision_or_empty

import wavdiff
from wavdiff.evaluation.photographs.reading import central
from wavdiff.images import image_grid, read_pixels, resize, save_image
from wavdiff.images.codecs.jpeg_coefficients import read_jpeg_coefficients
from wavdiff.images.labels import labelled
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.degradations import read_kernel
from wavdiff.restoration.inverse import PictureDenoiser, Way, solve_inverse
from wavdiff.restoration.operators import Blur, Frequencies, Mask, Operator, Reduction

with torchvision_or_empty():
    from deepinv.optim import L2
    from deepinv.sampling import DDRM, DiffPIR

    from wavdiff.adapters.deepinv import CascadeDenoiser

NAMES = ("astronaut", "coffee", "chelsea", "rocket")
EDGE = 8
Solver = Callable[[Operator, Tensor, float], Tensor]


class Counted(PictureDenoiser):
    """Counts calls."""

    calls = 0

    def denoise(self, *given: Any) -> Any:
        """See `PictureDenoiser`."""
        self.calls += 1
        return super().denoise(*given)


class CountedDeepInverse(CascadeDenoiser):
    """The same in DeepInverse's units."""

    calls = 0

    def forward(self, x: Tensor, sigma: Any, **more: Any) -> Tensor:
        """See `Prior`; above the highest level of training pictures are shrunk towards gray until it is that."""
        self.calls += 1
        most = (self.cascade.noise_max or 1) * 0.9999
        level = float(torch.as_tensor(sigma).flatten()[0])
        shrunk = 0.5 + (x.float().detach() - 0.5) * min(1.0, most / max(level, 1e-9))
        return super().forward(shrunk, min(level, most), **more)


class Physics:
    """One of our operators for pictures in [0, 1], as DeepInverse's solvers ask for them."""

    def __init__(self, operator: Operator, noise: float) -> None:
        self.operator = operator
        self.noise_model = type("Noise", (), {"sigma": noise})()

    def A(self, x: Tensor, **more: Any) -> Tensor:
        """See `Operator`."""
        return self.operator.A(x.float())

    def A_adjoint(self, y: Tensor, **more: Any) -> Tensor:
        """See `Operator`."""
        return self.operator.A_adjoint(y.float())

    A_dagger = A_adjoint

    def prox_l2(self, z: Tensor, y: Tensor, gamma: Any, **more: Any) -> Tensor:
        """The x that minimises gamma/2 |A x - y|^2 + 1/2 |x - z|^2."""
        from wavdiff.restoration.guidance import solved

        weight = float(torch.as_tensor(gamma).flatten()[0])
        right = z.float() + weight * self.A_adjoint(y)
        return solved(lambda x: x + weight * self.A_adjoint(self.A(x)), right, 50)


def problems(x: Tensor, seed: int = 0) -> dict[str, tuple[Operator, Tensor, float]]:
    """Operator, measurement in [-1, 1], noise in its units."""
    generator = torch.Generator().manual_seed(seed)
    height, width = x.shape[-2:]
    keep = Mask(torch.rand(height, width, generator=generator) < 0.1)
    hole = torch.ones(height, width)
    hole[height // 2 - 10 : height // 2 + 10, width // 2 - 10 : width // 2 + 10] = 0
    kernel = read_kernel("gaussian:2")
    blur = Blur(kernel, (height - kernel.shape[0] + 1, width - kernel.shape[1] + 1))
    blurred = blur.A(x)
    blurred = blurred + 4 / 255 * torch.randn(blurred.shape, generator=generator)
    reduction = Reduction((height, width), (height // 4, width // 4), "bicubic")
    small = ((reduction.A(x) + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
    rows, columns = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    distance = (rows[:, None] ** 2 + columns[None] ** 2).sqrt()
    chosen = torch.rand(height, width, generator=generator) < (0.2 * 0.038 / distance.clamp(min=0.02) ** 1.5).clamp(
        max=1
    )
    frequencies = Frequencies(chosen)
    return {
        "10 % of pixels": (keep, keep.A(x), 0.0),
        "hole 20x20": (Mask(hole), hole * x, 0.0),
        "blur 2, noise 2/255": (blur, blurred, 4 / 255),
        "bicubic x4": (reduction, small, 2 / 255 / 12**0.5),
        "Fourier": (frequencies, frequencies.A(x), 0.0),
    }


def deepinverse(prior: CountedDeepInverse, name: str, calls: int) -> Solver:
    """A solver of DeepInverse, of pictures in [-1, 1]."""

    def solve(operator: Operator, y: Tensor, noise: float) -> Tensor:
        ones = torch.ones_like(operator.A_adjoint(y))
        measured = (y + operator.A(ones)) / 2  # of (x + 1) / 2
        physics = Physics(operator, max(noise / 2, 0.001))
        if name == "DiffPIR":
            solver = DiffPIR(prior, L2(), sigma=max(noise / 2, 0.005), max_iter=calls, device="cpu")
            return 2 * solver(measured, physics).float() - 1
        levels = np.linspace(1, 0, calls)
        solver = DDRM(prior, sigmas=levels, verbose=False)
        return 2 * solver(measured, decomposed(operator, max(noise / 2, 0.001))).float() - 1

    return solve


def decomposed(operator: Operator, noise: float) -> Any:
    """DeepInverse's own inpainting, which DDRM decomposes."""
    with torchvision_or_empty():
        from deepinv.physics import GaussianNoise, Inpainting
    assert isinstance(operator, Mask)
    mask = operator.known.expand(3, -1, -1)
    return Inpainting(img_size=tuple(mask.shape), mask=mask, noise_model=GaussianNoise(noise))


def classical(name: str, x_size: tuple[int, int]) -> tuple[str, Solver] | None:
    """What people use without a prior."""
    from skimage import restoration

    def biharmonic(operator: Any, y: Tensor, noise: float) -> Tensor:
        filled = restoration.inpaint_biharmonic(
            y[0].permute(1, 2, 0).double().numpy(), operator.known.numpy() == 0, channel_axis=-1
        )
        return torch.from_numpy(filled).permute(2, 0, 1)[None].float()

    def lucy(operator: Any, y: Tensor, noise: float) -> Tensor:
        kernel = read_kernel("gaussian:2").numpy()
        planes = [restoration.richardson_lucy((plane.numpy() + 1) / 2, kernel, 20) for plane in y[0]]
        inner = torch.from_numpy(np.stack(planes)).float() * 2 - 1
        top, left = (operator.margins[0] // 2, operator.margins[1] // 2)
        framed = torch.zeros(1, 3, *x_size)
        framed[..., top : top + inner.shape[-2], left : left + inner.shape[-1]] = inner
        return framed

    def enlarged(operator: Any, y: Tensor, noise: float) -> Tensor:
        return resize(y, x_size)

    def zeros(operator: Any, y: Tensor, noise: float) -> Tensor:
        return operator.A_adjoint(y)

    found = {
        "10 % of pixels": ("biharmonic", biharmonic),
        "hole 20x20": ("biharmonic", biharmonic),
        "blur 2, noise 2/255": ("Richardson-Lucy", lucy),
        "bicubic x4": ("bicubic", enlarged),
        "Fourier": ("zeros for the rest", zeros),
    }
    return found.get(name)


def scores(found: Tensor, x: Tensor, edge: int) -> tuple[float, float]:
    """PSNR and SSIM."""
    from skimage.metrics import structural_similarity

    one, other = ((picture.clamp(-1, 1)[0, :, edge:-edge, edge:-edge] + 1) / 2 for picture in (found, x))
    psnr = float(-10 * torch.log10((one - other).square().mean()))
    return psnr, float(structural_similarity(one.numpy(), other.numpy(), channel_axis=0, data_range=1.0))


def jpeg(clean: list[Tensor], model: WaveletCascade) -> None:
    """Rows of JPEG files, chroma halved, of several qualities: decoded, and restored."""
    for quality in (30, 50, 75):
        decoded, restored = [], []
        began = time.perf_counter()
        for x in clean:
            with NamedTemporaryFile(suffix=".jpg") as file:
                picture = ((x[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
                Image.fromarray(picture).save(file.name, quality=quality, subsampling=2)
                known = wavdiff.Degradation(jpeg=read_jpeg_coefficients(Path(file.name)))
                given = torch.from_numpy(read_pixels(Path(file.name))).permute(2, 0, 1)
            found = wavdiff.restore(given, known, model=model)
            for results, pixels in ((decoded, given), (restored, found)):
                results.append(scores(pixels[None].float() / 127.5 - 1, x, EDGE))
        seconds = (time.perf_counter() - began) / len(clean)
        for method, results, calls in (("decoded", decoded, 0), ("restored", restored, 1)):
            psnr, ssim = (sum(row[k] for row in results) / len(results) for k in (0, 1))
            print(
                f"| JPEG {quality} | {method} | {psnr:.2f} | {ssim:.3f} | {calls} | {seconds * calls:.1f} |", flush=True
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--out", type=Path, help="folder for pictures of the results")
    parser.add_argument("--only", default="", help="problems whose name has this, such as Fourier or JPEG")
    parser.add_argument("--draws", action="store_true", help="also one draw of each method that draws")
    options = parser.parse_args()
    if options.folder:
        pixels = [read_pixels(path) for path in sorted(options.folder.iterdir())]
    else:
        pixels = [getattr(skimage.data, name)() for name in NAMES]
    clean = [torch.from_numpy(p).float().permute(2, 0, 1) / 127.5 - 1 for p in pixels if p.ndim == 3][: options.limit]
    clean = [central(picture, options.crop)[None] for picture in clean]
    cascade: WaveletCascade = wavdiff.load(options.model)
    ours, theirs = Counted(cascade), CountedDeepInverse(cascade)

    def own(**way: Any) -> Solver:
        return lambda operator, y, noise: solve_inverse(ours, operator, y, noise, [0], Way(**way))

    solvers: dict[str, Solver] = {
        "moments": own(),
        "moments, 12 steps": own(steps=12),
        "splitting": own(method="splitting"),
        "DiffPIR": deepinverse(theirs, "DiffPIR", 20),
        "DDRM": deepinverse(theirs, "DDRM", 20),
    }
    if options.draws:
        solvers |= {"draw": own(mode="sample"), "ascent": own(mode="sample", method="ascent")}
    print(f"{len(clean)} pictures of {options.crop}x{options.crop}, {torch.get_num_threads()} threads\n")
    print("| problem | method | PSNR | SSIM | calls | seconds |\n|---|---|---|---|---|---|")
    if options.only in "JPEG":
        jpeg(clean, cascade)
    for name in [name for name in problems(clean[0]) if options.only in name]:
        size = (options.crop, options.crop)
        tried = {**solvers}
        if name == "bicubic x4":
            tried["upscale"] = lambda operator, y, noise: wavdiff.upscale(y, 4, model=cascade)
        plain = classical(name, size)
        if plain:
            tried[plain[0]] = plain[1]
        shown: list[Tensor] = []
        for method, solver in tried.items():
            if method == "DDRM" and name not in ("10 % of pixels", "hole 20x20"):
                continue
            ours.calls = theirs.calls = 0
            began, results = time.perf_counter(), []
            for x in clean:
                operator, y, noise = problems(x)[name]
                with torch.inference_mode():
                    found = solver(operator, y, noise)
                results.append((found, *scores(found, x, EDGE + (8 if isinstance(operator, Blur) else 0))))
            seconds = (time.perf_counter() - began) / len(clean)
            psnr, ssim = (sum(row[k] for row in results) / len(results) for k in (1, 2))
            calls = (ours.calls + theirs.calls) / len(clean)
            print(f"| {name} | {method} | {psnr:.2f} | {ssim:.3f} | {calls:.0f} | {seconds:.1f} |", flush=True)
            shown.append(labelled(results[0][0][0].clamp(-1, 1), f"{method} {results[0][1]:.1f} dB"))
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            shown.insert(0, labelled(clean[0][0], "truth"))
            path = options.out / f"{name.replace(' ', '_').replace('/', '-').replace('%', 'percent')}.png"
            save_image(path, image_grid(torch.stack(shown), columns=4))


if __name__ == "__main__":
    main()
