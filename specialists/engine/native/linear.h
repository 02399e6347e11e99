// Products with packed bf16 and 8-bit weights.
#pragma once

#include "numbers.h"

namespace {

// One row to 8 bits with its own scale. Its groups of four lie `stride` bytes apart, beside those of its tile's other rows.
void quantize_row(const bf16* x, int64_t n, uint8_t* out, int64_t stride, float* scale) {
    float highest = 0.0f;
    int32_t num_wild = 0;
#pragma omp simd reduction(max : highest) reduction(+ : num_wild)
    for (int64_t i = 0; i < n; ++i) {
        highest = std::max(highest, std::fabs(wide(x[i])));
        num_wild += (x[i] & 0x7f80) == 0x7f80;
    }
    // A row with a NaN or an infinity must not come out as a row of ordinary numbers.
    *scale = num_wild ? std::numeric_limits<float>::quiet_NaN() : std::max(highest, 1e-12f) / 127.0f;
    float factor = num_wild ? 0.0f : 127.0f / std::max(highest, 1e-12f);
    uint8_t part[256];
    for (int64_t start = 0; start < n; start += 256) {
        int64_t count = std::min<int64_t>(256, n - start);
#pragma omp simd
        for (int64_t i = 0; i < count; ++i)
            part[i] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyintf(wide(x[start + i]) * factor)) + 128);
        for (int64_t i = 0; i < count; i += 4) std::memcpy(out + (start + i) / 4 * stride, part + i, 4);
    }
}

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define POLYMATH_HAS_LINEAR 1
constexpr int kTall = 16;  // rows of a tile; with its sums it just fits the 32 vector registers

// A weight in blocks of 16 outputs; of each the inputs that fit 4 bytes lie together: [out / 16][in * size / 4][16][4 bytes].
struct PackedWeight {
    const uint8_t* values;
    int64_t in_features, out_features;
    const float* scale;    // [out_features]; null: the weights are bf16
    const int32_t* shift;  // [out_features]: what the activations' offset of 128 adds to 8-bit products
    const float* bias;     // [out_features] or null
};

struct Int8 {
    using Sum = __m512i;
    static Sum zero() { return _mm512_setzero_si512(); }
    static Sum add(Sum sum, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(sum, x, w); }
    static float value(uint32_t bits, const PackedWeight& weight, int64_t column, float row_scale) {
        return static_cast<float>(static_cast<int32_t>(bits) - weight.shift[column]) * (weight.scale[column] * row_scale);
    }
};

struct Bf16 {
    using Sum = __m512;
    static Sum zero() { return _mm512_setzero_ps(); }
    static Sum add(Sum sum, __m512i x, __m512i w) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }
    static float value(uint32_t bits, const PackedWeight&, int64_t, float) {
        float result;
        std::memcpy(&result, &bits, sizeof result);
        return result;
    }
};

// `Rows` rows (their 4-byte groups side by side) times `Blocks` blocks of 16 outputs from `block` on.
template <typename Kind, int Rows, int Blocks>
void tile(const uint8_t* x, int64_t steps, const float* row_scale, int64_t num_rows, const PackedWeight& weight, int64_t block,
          bf16* out) {
    const uint8_t* w = weight.values + block * steps * 64;
    typename Kind::Sum sums[Rows][Blocks];
    POLYMATH_EACH(r, Rows) POLYMATH_EACH(b, Blocks) sums[r][b] = Kind::zero();
    for (int64_t k = 0; k < steps; ++k) {
        __m512i values[Blocks];
        POLYMATH_EACH(b, Blocks) {
            values[b] = _mm512_loadu_si512(w + (b * steps + k) * 64);
            _mm_prefetch(reinterpret_cast<const char*>(w + (b * steps + k) * 64 + 1024), _MM_HINT_T0);
        }
        POLYMATH_EACH(r, Rows) {
            int32_t group;
            std::memcpy(&group, x + (k * Rows + r) * 4, 4);
            __m512i a = _mm512_set1_epi32(group);
            POLYMATH_EACH(b, Blocks) sums[r][b] = Kind::add(sums[r][b], a, values[b]);
        }
    }
    alignas(64) uint32_t lanes[Rows][Blocks][kLanes];
    POLYMATH_EACH(r, Rows) POLYMATH_EACH(b, Blocks) std::memcpy(lanes[r][b], &sums[r][b], 64);
    for (int64_t r = 0; r < num_rows; ++r)
        for (int b = 0; b < Blocks; ++b) {
            int64_t start = (block + b) * kLanes;
            bf16* place = out + r * weight.out_features + start;
#pragma omp simd
            for (int i = 0; i < kLanes; ++i) {
                float y = Kind::value(lanes[r][b][i], weight, start + i, row_scale[r]);
                place[i] = narrow(weight.bias ? y + weight.bias[start + i] : y);
            }
        }
}

template <typename Kind, int Rows, int Blocks>
void tiles(const uint8_t* x, int64_t steps, const float* row_scale, int64_t rows, const PackedWeight& weight, int64_t block,
           bf16* out) {
    for (int64_t r = 0; r < rows; r += Rows)
        tile<Kind, Rows, Blocks>(x + r * steps * 4, steps, row_scale + r, std::min<int64_t>(Rows, rows - r), weight, block,
                                 out + r * weight.out_features);
}

using Tiles = void (*)(const uint8_t*, int64_t, const float*, int64_t, const PackedWeight&, int64_t, bf16*);
constexpr int blocks_for(int rows) { return rows <= 7 ? 4 : (rows <= 9 ? 3 : (rows <= 14 ? 2 : 1)); }

struct Shape {
    Tiles several, one;
    int blocks;
};
#define POLYMATH_SHAPE(rows) {tiles<Kind, rows, blocks_for(rows)>, tiles<Kind, rows, 1>, blocks_for(rows)}
template <typename Kind>
constexpr Shape kShapes[kTall] = {
    POLYMATH_SHAPE(1),  POLYMATH_SHAPE(2),  POLYMATH_SHAPE(3),  POLYMATH_SHAPE(4),  POLYMATH_SHAPE(5),  POLYMATH_SHAPE(6),
    POLYMATH_SHAPE(7),  POLYMATH_SHAPE(8),  POLYMATH_SHAPE(9),  POLYMATH_SHAPE(10), POLYMATH_SHAPE(11), POLYMATH_SHAPE(12),
    POLYMATH_SHAPE(13), POLYMATH_SHAPE(14), POLYMATH_SHAPE(15), POLYMATH_SHAPE(16),
};

void interleave_row(const bf16* x, int64_t n, uint8_t* out, int64_t stride) {
    for (int64_t i = 0; i < n; i += 2) std::memcpy(out + i / 2 * stride, x + i, 4);
}
#endif

}  // namespace
