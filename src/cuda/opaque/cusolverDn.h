// Stands in for cuSOLVER's header where that is not installed: LibTorch's CUDA headers declare
// functions of these types, and the plugin calls none of them.
#pragma once

#include "cusolver_common.h"

typedef struct cusolverDnContext* cusolverDnHandle_t;
