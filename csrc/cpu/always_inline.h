// SOMVAE_ALWAYS_INLINE marks the small functions of inner loops: a call would spill their accumulators to memory.
#pragma once

#define SOMVAE_ALWAYS_INLINE inline __attribute__((always_inline))
