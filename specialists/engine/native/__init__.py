"""The engine's own CPU kernels: C++ compiled on the machine it runs on, called through ctypes.

Optional. Without a compiler, or on another device, the engine computes the same with torch's operations.
"""
