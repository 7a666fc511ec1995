// Stands in for cuSPARSE's header where that is not installed: LibTorch's CUDA headers declare
// functions of these types, and the plugin calls none of them.
#pragma once

typedef struct cusparseContext* cusparseHandle_t;
typedef enum { CUSPARSE_STATUS_SUCCESS = 0 } cusparseStatus_t;
