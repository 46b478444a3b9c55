// Emulates the CUDA thread model on the host, for tests: kernels are compiled as C++ and run one thread at a time.
//
// device.h includes this in place of CUDA when SOMVAE_SIMT is defined. Each CUDA thread is a fiber; barriers and warp
// exchanges switch between them; blocks run one after another. The address sanitizer then sees overruns of global,
// static shared and dynamic shared memory, the thread sanitizer sees races between threads, between warps and between
// blocks, and the emulation itself reports deadlocks and launches that CUDA would refuse. The destination of an
// asynchronous copy is undefined from its start until the thread that started it has waited. Not modeled: memory other
// than shared and global, textures, streams, the sum of static and dynamic shared memory (ptxas reports it).
#pragma once

#include "simt/arithmetic.h"
#include "simt/block.h"
#include "simt/language.h"
#include "simt/launch.h"
#include "simt/warp.h"
