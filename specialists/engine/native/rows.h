// Norm and rotation of one row.
#pragma once

#include "numbers.h"

namespace {

// RMSNorm of one row: float32 inside, the weight applied after rounding, as the checkpoints were trained with.
inline void norm_row(const bf16* x, const bf16* weight, bf16* out, int64_t n, float eps) {
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; ++i) squares += wide(x[i]) * wide(x[i]);
    float scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = narrow(rounded(wide(x[i]) * scale) * wide(weight[i]));
}

inline void rotate_head(bf16* head, const bf16* cos, const bf16* sin, int64_t half) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
        float first = wide(head[i]), second = wide(head[half + i]), c = wide(cos[i]), s = wide(sin[i]);
        head[i] = narrow(rounded(first * c) - rounded(second * s));
        head[half + i] = narrow(rounded(second * c) + rounded(first * s));
    }
}

}  // namespace
