"""Which OpenGL draws when there is no screen: EGL, else OSMesa, or what MUJOCO_GL names.

`context_class` probes the system's libraries through ctypes before PyOpenGL is imported, since PyOpenGL
binds itself to one platform for the life of the process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import platform
import warnings
from collections.abc import Callable
from typing import Any

from vla_rl.registry import SetupError, nearest

HELP = """MuJoCo cannot draw: no usable OpenGL on this machine without a screen.
  {reason}
On Debian or Ubuntu, as root, `bash scripts/system_packages.sh` installs what is needed (quickstart.sh calls it), or:
  apt-get install libegl1 libgl1 libgl1-mesa-dri      # EGL (with an NVIDIA driver: libegl1 libgl1)
  apt-get install libosmesa6                          # OSMesa
MUJOCO_GL=egl, osmesa or glfw makes the choice by hand."""


class MissingGLError(SetupError):
    """No OpenGL to draw with; the message names the packages to install, or the variable that prevents it."""


_PLATFORMS = ("glfw", "enable", "enabled", "on", "true", "1", "disable", "disabled", "off", "false", "0", "")
_OF_SYSTEM = {"Linux": ("egl", "osmesa", "glx"), "Windows": ("wgl",), "Darwin": ("cgl",)}
_WITHOUT_SCREEN = ("egl", "osmesa")


def check_choice() -> None:
    """Look at MUJOCO_GL before `import mujoco` does, whose error would not say what to do.

    Raises:
        MissingGLError: no such platform.
    """
    chosen = _variable("MUJOCO_GL")
    known = (*_OF_SYSTEM.get(platform.system(), ()), *_PLATFORMS)
    if chosen not in known:
        raise MissingGLError(
            f"MUJOCO_GL={chosen}: no such platform ({nearest(chosen, filter(None, known))}); unset it to have one that "
            "works chosen"
        )


def _variable(name: str) -> str:
    return os.environ.get(name, "").lower().strip()


def probe_egl() -> str:
    """Why EGL cannot draw off screen here; "" where it can. Makes a context and destroys it."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return "libEGL.so.1 is not installed"
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    egl.eglGetProcAddress.restype = pointer
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]

    def extension(name: bytes, result: Any, *arguments: Any) -> Callable[..., Any] | None:
        address = egl.eglGetProcAddress(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None

    query = extension(b"eglQueryDevicesEXT", ctypes.c_uint, integer, pointer, pointer)
    get_display = extension(b"eglGetPlatformDisplayEXT", pointer, ctypes.c_uint, pointer, pointer)
    if query is None or get_display is None:
        return "libEGL.so.1 lacks the device platform"
    devices, count = (pointer * 16)(), integer(0)
    if not query(16, ctypes.byref(devices), ctypes.byref(count)) or count.value == 0:
        return "libEGL.so.1 finds no device (no driver: libegl-mesa0 and libgl1-mesa-dri, or a GPU's own)"
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    egl.eglGetError.restype = integer
    for device in devices[: count.value]:
        display = get_display(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None) and _can_make_egl_context(egl, display):
            return ""
    return f"none of the {count.value} EGL device(s) gives a context (driver missing? libgl1-mesa-dri)"


_EGL_PLATFORM_DEVICE_EXT, _EGL_OPENGL_API, _EGL_NONE = 0x313F, 0x30A2, 0x3038
_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT, _EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT = 0x3033, 0x0001, 0x3040, 0x0008


def _can_make_egl_context(egl: ctypes.CDLL, display: int) -> bool:
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    wanted = (_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT, _EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT, _EGL_NONE)
    attributes, config, count = (integer * 5)(*wanted), pointer(), integer(0)
    egl.eglChooseConfig.argtypes = [pointer, pointer, pointer, integer, pointer]
    egl.eglCreateContext.argtypes = [pointer, pointer, pointer, pointer]
    egl.eglCreateContext.restype = pointer
    egl.eglDestroyContext.argtypes = [pointer, pointer]
    if not egl.eglChooseConfig(display, attributes, ctypes.byref(config), 1, ctypes.byref(count)) or not count.value:
        return False
    egl.eglBindAPI(_EGL_OPENGL_API)
    context = egl.eglCreateContext(display, config, None, None)
    if context:
        egl.eglDestroyContext(display, context)
    return bool(context)


def probe_osmesa() -> str:
    """Why OSMesa cannot draw here; "" where it can. Makes a context and destroys it."""
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            mesa = ctypes.CDLL(name)
        except OSError:
            continue
        mesa.OSMesaCreateContextExt.restype = ctypes.c_void_p
        mesa.OSMesaDestroyContext.argtypes = [ctypes.c_void_p]
        rgba, depth_bits = 0x1908, 24
        context = mesa.OSMesaCreateContextExt(rgba, depth_bits, 8, 0, None)
        if context:
            mesa.OSMesaDestroyContext(context)
            return ""
        return f"{name} gives no context"
    return "libOSMesa is not installed"


def choose() -> str:
    """The value of MUJOCO_GL to draw with: what the user set, else "egl" or "osmesa", whichever works.

    PYOPENGL_PLATFORM chooses, too, and may not say otherwise than MUJOCO_GL.

    Raises:
        MissingGLError: on Linux, where neither works; variables that do not go together.
    """
    check_choice()
    chosen = _variable("MUJOCO_GL")
    if platform.system() != "Linux":
        return chosen
    binding = _variable("PYOPENGL_PLATFORM")
    if binding and chosen in ("", *_WITHOUT_SCREEN) and binding not in (_WITHOUT_SCREEN if not chosen else (chosen,)):
        wanted = chosen or "egl or osmesa"
        also = f", and MUJOCO_GL={chosen}" if chosen else ""
        raise MissingGLError(
            f"PYOPENGL_PLATFORM={binding}{also}: MuJoCo draws with {wanted} here; unset it, or set that"
        )
    if chosen or binding:
        return chosen or binding
    egl = probe_egl()
    if not egl:
        return "egl"
    osmesa = probe_osmesa()
    if not osmesa:
        return "osmesa"
    raise MissingGLError(HELP.format(reason=f"EGL: {egl}\n  OSMesa: {osmesa}"))


def _has_screen() -> bool:
    """Whether windows can be opened; GLFW says no with a warning only."""
    glfw = importlib.import_module("glfw")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(glfw.init())


@functools.cache
def context_class() -> type:
    """MuJoCo's GLContext class of the chosen platform; sets MUJOCO_GL for whatever draws later.

    Raises:
        MissingGLError: nothing can draw, or what the variables name cannot.
    """
    # One 64x64 frame is too little work to share: Mesa's worker threads cost a third of it, and fight for
    # the cores with other environments. Mesa reads this once, when the probe first wakes it.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = choose()
    if chosen:
        os.environ["MUJOCO_GL"] = chosen
    device = _variable("MUJOCO_EGL_DEVICE_ID")
    if chosen == "egl" and device and not device.isdecimal():
        raise MissingGLError(f"MUJOCO_EGL_DEVICE_ID={device}: the number of a device is needed, such as 0, or none")
    if chosen not in _WITHOUT_SCREEN and platform.system() == "Linux" and not _has_screen():
        raise MissingGLError(
            f"MUJOCO_GL={chosen}: it draws on a screen, and there is none that DISPLAY or WAYLAND_DISPLAY names; "
            "unset MUJOCO_GL, or set it to egl or osmesa"
        )
    module = f"mujoco.{chosen}" if chosen in ("egl", "osmesa", "glfw") else "mujoco.gl_context"
    try:
        found = importlib.import_module(module).GLContext
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise MissingGLError(HELP.format(reason=f"MUJOCO_GL={chosen} cannot be used: {error}")) from error
    # The renderer frees it. Those of older versions do so themselves at exit too, with an error: the display is gone.
    kept: dict[str, Any] = {"__del__": lambda self: None}
    if chosen == "egl":
        kept["make_current"] = _unless_current(found.make_current)
    return type("Context", (found,), kept)


def _unless_current(make_current: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same for a context of EGL, but nothing for what is the thread's already.

    Asking takes 2 microseconds, where making it current again takes 11, a twentieth of a small picture.
    """
    current = importlib.import_module("OpenGL.EGL").eglGetCurrentContext

    def unless_current(context: Any) -> None:
        present = current()
        if not present or present.address != getattr(context, "address", None):
            make_current(context)
            context.address = current().address

    return unless_current
