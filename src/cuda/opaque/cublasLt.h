// Stands in for cuBLASLt's header where that is not installed: LibTorch's CUDA headers declare
// functions of these types, and the plugin calls none of them.
#pragma once

typedef struct cublasLtContext* cublasLtHandle_t;
