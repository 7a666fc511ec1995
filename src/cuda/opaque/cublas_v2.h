// Stands in for cuBLAS's header where that is not installed: LibTorch's CUDA headers declare
// functions of these types, and the plugin calls none of them.
#pragma once

typedef struct cublasContext* cublasHandle_t;
typedef enum { CUBLAS_STATUS_SUCCESS = 0 } cublasStatus_t;
