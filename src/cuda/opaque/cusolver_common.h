// Stands in for cuSOLVER's header where that is not installed: LibTorch's CUDA headers declare
// functions of these types, and the plugin calls none of them.
#pragma once

typedef enum { CUSOLVER_STATUS_SUCCESS = 0 } cusolverStatus_t;
