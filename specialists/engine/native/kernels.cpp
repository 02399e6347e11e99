// The small operations of a decode step, fused for a CPU, and products with 8-bit weights.
//
// Every function computes each row from that row alone, in an order fixed by the row's own length: who shares the batch
// changes nothing. bf16 numbers travel as uint16_t and are rounded where the checkpoints' own code rounds.
// Plain C interface, called by kernels.py; shapes are given there. Compiled on the machine it runs on.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

using bf16 = uint16_t;

int num_threads = 1;

inline float wide(bf16 value) {
    uint32_t bits = static_cast<uint32_t>(value) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline bf16 narrow(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return static_cast<bf16>(value == value ? rounded : 0x7fc0);  // a NaN stays one
}

inline float rounded(float value) { return wide(narrow(value)); }

// e^x for x <= 0 (softmax) and any x (silu): 2^n by the exponent bits, the rest by a polynomial; 2 units in the last place.
inline float exponential(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f);
    float scaled = x * 1.44269504f;
    float whole = std::nearbyintf(scaled);
    float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * rest + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * rest * rest + rest + 1.0f;
    int32_t bits = (static_cast<int32_t>(whole) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

inline float dot(const bf16* a, const bf16* b, int64_t n) {
    float total = 0.0f;
    int64_t i = 0;
#if defined(__AVX512BF16__)
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (; i + 64 <= n; i += 64) {
        even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_loadu_si512(a + i), (__m512bh)_mm512_loadu_si512(b + i));
        odd = _mm512_dpbf16_ps(odd, (__m512bh)_mm512_loadu_si512(a + i + 32), (__m512bh)_mm512_loadu_si512(b + i + 32));
    }
    total = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
#endif
    float rest = 0.0f;
#pragma omp simd reduction(+ : rest)
    for (int64_t j = i; j < n; ++j) rest += wide(a[j]) * wide(b[j]);
    return total + rest;
}

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

constexpr int kLanes = 16;     // numbers in one vector register
constexpr int kMaxGroup = 16;  // query heads that may share a key head
constexpr int kMaxHead = 256;

// sums += x[0] * pairs[lane][0] + x[1] * pairs[lane][1], for 16 lanes; `x` holds two bf16 numbers.
#if defined(__AVX512BF16__)
using Lanes = __m512;
inline Lanes no_lanes() { return _mm512_setzero_ps(); }
inline Lanes add_pair(Lanes sums, uint32_t x, const uint32_t* pairs, int lanes) {
    __m512i w = lanes == kLanes ? _mm512_loadu_si512(pairs)
                                : _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << lanes) - 1), pairs);
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(x)), (__m512bh)w);
}
inline void store(Lanes sums, float* out) { _mm512_storeu_ps(out, sums); }
#else
struct Lanes {
    float values[kLanes];
};
inline Lanes no_lanes() { return {}; }
inline Lanes add_pair(Lanes sums, uint32_t x, const uint32_t* pairs, int lanes) {
    float first = wide(static_cast<bf16>(x)), second = wide(static_cast<bf16>(x >> 16));
    for (int i = 0; i < lanes; ++i)
        sums.values[i] += first * wide(static_cast<bf16>(pairs[i])) + second * wide(static_cast<bf16>(pairs[i] >> 16));
    return sums;
}
inline void store(Lanes sums, float* out) { std::memcpy(out, sums.values, sizeof sums.values); }
#endif

inline uint32_t pair_at(const bf16* x, int64_t pair) {
    uint32_t bits;
    std::memcpy(&bits, x + 2 * pair, sizeof bits);
    return bits;
}

// sums += weights times `count` rows of values, up to 64 columns of them.
inline void add_values(float* sums, int width, const float* weights, const float* values, int count) {
    float part[64] = {};
    std::memcpy(part, sums, width * sizeof(float));
    if (width == 64) {
        for (int j = 0; j < count; ++j)
#pragma omp simd
            for (int d = 0; d < 64; ++d) part[d] += weights[j] * values[j * kMaxHead + d];
    } else {
        for (int j = 0; j < count; ++j)
#pragma omp simd
            for (int d = 0; d < width; ++d) part[d] += weights[j] * values[j * kMaxHead + d];
    }
    std::memcpy(sums, part, width * sizeof(float));
}

// Attention of the query heads of one row that share a key head, over the cache's blocks, 16 keys at a time with a running
// softmax.
void attend(const bf16* query, const bf16* keys, const bf16* values, const int64_t* blocks, int64_t block_size,
            int64_t num_keys, int group, int head_dim, float scale, bf16* out) {
    float sums[kMaxGroup][kMaxHead] = {}, total[kMaxGroup] = {}, highest[kMaxGroup], weights[kLanes];
    float widened[kLanes][kMaxHead];
    uint32_t pairs[kMaxHead / 2][kLanes] = {};
    std::fill(highest, highest + kMaxGroup, -std::numeric_limits<float>::infinity());
    for (int64_t start = 0; start < num_keys; start += kLanes) {
        int count = static_cast<int>(std::min<int64_t>(kLanes, num_keys - start));
        for (int j = 0; j < count; ++j) {
            int64_t position = start + j;
            int64_t place = (blocks[position / block_size] * block_size + position % block_size) * head_dim;
            for (int pair = 0; pair < head_dim / 2; ++pair) pairs[pair][j] = pair_at(keys + place, pair);
#pragma omp simd
            for (int d = 0; d < head_dim; ++d) widened[j][d] = wide(values[place + d]);
        }
        for (int g = 0; g < group; ++g) {
            Lanes even = no_lanes(), odd = no_lanes();
            for (int pair = 0; pair < head_dim / 2; pair += 2) {
                even = add_pair(even, pair_at(query + g * head_dim, pair), pairs[pair], kLanes);
                odd = add_pair(odd, pair_at(query + g * head_dim, pair + 1), pairs[pair + 1], kLanes);
            }
            float more[kLanes], top = highest[g], added = 0.0f;
            store(even, weights);
            store(odd, more);
#pragma omp simd reduction(max : top)
            for (int j = 0; j < kLanes; ++j) {
                weights[j] = j < count ? (weights[j] + more[j]) * scale : -std::numeric_limits<float>::infinity();
                top = std::max(top, weights[j]);
            }
#pragma omp simd reduction(+ : added)
            for (int j = 0; j < kLanes; ++j) {
                weights[j] = exponential(weights[j] - top);
                added += weights[j];
            }
            if (highest[g] != top) {
                float shrink = exponential(highest[g] - top);
                total[g] *= shrink;
#pragma omp simd
                for (int d = 0; d < head_dim; ++d) sums[g][d] *= shrink;
                highest[g] = top;
            }
            total[g] += added;
            for (int first = 0; first < head_dim; first += 64)
                add_values(sums[g] + first, std::min(64, head_dim - first), weights, &widened[0][first], count);
        }
    }
    for (int g = 0; g < group; ++g)
        for (int d = 0; d < head_dim; ++d) out[g * head_dim + d] = narrow(sums[g][d] / total[g]);
}

// What one adapter has for one of the model's fused products: up to three targets.
constexpr int kTargets = 3;
struct Target {
    const uint32_t* a;    // pairs of inputs, for 16 ranks side by side: [rank / 16][in_features / 2][16 or what is left]
    const uint32_t* b;    // pairs of ranks, for 16 outputs side by side: [out_features / 16][rank / 2][16 or what is left]
    int64_t rank;         // even; 0: this target is not adapted
    int64_t out_start;    // first output column
    int64_t out_features;
};
struct Adapter {
    Target targets[kTargets];
    double scale;
};

constexpr int kMaxRank = 64;
constexpr int64_t kReducedWidth = kTargets * kMaxRank;

// The products of some rows with 16 (or `lanes`) columns of `pairs` [num_pairs][lanes], given to `take(row, sums)`.
template <int Rows, typename Take>
inline void multiply(const bf16* const* x, const uint32_t* pairs, int64_t num_pairs, int lanes, Take&& take) {
    Lanes sums[Rows];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) sums[r] = no_lanes();
    for (int64_t pair = 0; pair < num_pairs; ++pair)
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) sums[r] = add_pair(sums[r], pair_at(x[r], pair), pairs + pair * lanes, lanes);
    for (int r = 0; r < Rows; ++r) take(r, sums[r]);
}

template <typename Take>
inline void multiply_rows(const bf16* const* x, int64_t rows, const uint32_t* pairs, int64_t num_pairs, int lanes, Take&& take) {
    int64_t r = 0;
    for (; rows - r >= 16; r += 16) multiply<16>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); });
    if (rows - r >= 8) { multiply<8>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); }); r += 8; }
    if (rows - r >= 4) { multiply<4>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); }); r += 4; }
    if (rows - r >= 2) { multiply<2>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); }); r += 2; }
    if (rows - r >= 1) multiply<1>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); });
}

constexpr int64_t kRowsAtOnce = 64;

// 16 ranks of one target, for some rows: reduced = A x, rounded to bf16.
void reduce(const Target& target, int64_t start, const int32_t* rows, int64_t num_rows, const bf16* x, int64_t in_features,
            bf16* reduced, int64_t column) {
    int lanes = static_cast<int>(std::min<int64_t>(kLanes, target.rank - start));
    const uint32_t* pairs = target.a + start * (in_features / 2);
    for (int64_t first = 0; first < num_rows; first += kRowsAtOnce) {
        int64_t count = std::min(kRowsAtOnce, num_rows - first);
        const bf16* inputs[kRowsAtOnce];
        for (int64_t i = 0; i < count; ++i) inputs[i] = x + rows[first + i] * in_features;
        multiply_rows(inputs, count, pairs, in_features / 2, lanes, [&](int64_t i, Lanes sums) {
            float values[kLanes];
            store(sums, values);
            bf16* place = reduced + rows[first + i] * kReducedWidth + column + start;
            for (int lane = 0; lane < lanes; ++lane) place[lane] = narrow(values[lane]);
        });
    }
}

// 16 outputs of one target, for some rows: out += scale * B reduced.
void expand(const Target& target, float scale, int64_t start, const int32_t* rows, int64_t num_rows, const bf16* reduced,
            int64_t column, bf16* out, int64_t out_width) {
    int lanes = static_cast<int>(std::min<int64_t>(kLanes, target.out_features - start));
    const uint32_t* pairs = target.b + start * (target.rank / 2);
    for (int64_t first = 0; first < num_rows; first += kRowsAtOnce) {
        int64_t count = std::min(kRowsAtOnce, num_rows - first);
        const bf16* inputs[kRowsAtOnce];
        for (int64_t i = 0; i < count; ++i) inputs[i] = reduced + rows[first + i] * kReducedWidth + column;
        multiply_rows(inputs, count, pairs, target.rank / 2, lanes, [&](int64_t i, Lanes sums) {
            float values[kLanes];
            store(sums, values);
            bf16* place = out + rows[first + i] * out_width + target.out_start + start;
            if (lanes == kLanes) {
#pragma omp simd
                for (int lane = 0; lane < kLanes; ++lane) place[lane] = narrow(wide(place[lane]) + scale * values[lane]);
            } else {
                for (int lane = 0; lane < lanes; ++lane) place[lane] = narrow(wide(place[lane]) + scale * values[lane]);
            }
        });
    }
}

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

#define POLYMATH_EACH(index, count) _Pragma("GCC unroll 32") for (int index = 0; index < (count); ++index)

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

extern "C" {

void polymath_set_threads(int count) { num_threads = count; }

int polymath_has_linear() {
#if defined(POLYMATH_HAS_LINEAR)
    return 1;
#else
    return 0;
#endif
}

void polymath_add_norm(bf16* x, const bf16* added, const bf16* weight, bf16* out, int64_t rows, int64_t n, float eps) {
#pragma omp parallel for num_threads(num_threads) if (rows >= 8)
    for (int64_t row = 0; row < rows; ++row) {
        bf16* place = x + row * n;
        if (added)
#pragma omp simd
            for (int64_t i = 0; i < n; ++i) place[i] = narrow(wide(place[i]) + wide(added[row * n + i]));
        norm_row(place, weight, out + row * n, n, eps);
    }
}

void polymath_rotate_and_store(bf16* qkv, int64_t rows, int num_heads, int num_kv_heads, int head_dim,
                               const bf16* q_norm, const bf16* k_norm, float eps, const bf16* cos, const bf16* sin,
                               const int64_t* positions, const int64_t* places, bf16* keys, bf16* values,
                               int64_t head_stride) {
    int64_t width = static_cast<int64_t>(num_heads + 2 * num_kv_heads) * head_dim;
    int64_t half = head_dim / 2;
#pragma omp parallel for num_threads(num_threads) if (rows >= 8)
    for (int64_t row = 0; row < rows; ++row) {
        for (int head = 0; head < num_heads + num_kv_heads; ++head) {
            bf16* place = qkv + row * width + head * head_dim;
            const bf16* norm = head < num_heads ? q_norm : k_norm;
            if (norm) norm_row(place, norm, place, head_dim, eps);
            rotate_head(place, cos + positions[row] * half, sin + positions[row] * half, half);
        }
        for (int head = 0; head < num_kv_heads; ++head) {
            int64_t place = head * head_stride + places[row] * head_dim;
            const bf16* key = qkv + row * width + (num_heads + head) * head_dim;
            std::memcpy(keys + place, key, head_dim * sizeof(bf16));
            std::memcpy(values + place, key + num_kv_heads * head_dim, head_dim * sizeof(bf16));
        }
    }
}

void polymath_attention(const bf16* query, int64_t query_stride, int64_t rows, int num_heads, int num_kv_heads,
                        int head_dim, const bf16* keys, const bf16* values, int64_t head_stride,
                        const int64_t* tables, const int64_t* table_starts, const int64_t* num_keys,
                        int64_t block_size, float scale, bf16* out) {
    int group = num_heads / num_kv_heads;
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < rows * num_kv_heads; ++task) {
        // The last rows of a prompt see the most keys: they go first, so that no thread ends with the longest.
        int64_t row = rows - 1 - task / num_kv_heads, head = task % num_kv_heads;
        attend(query + row * query_stride + head * group * head_dim, keys + head * head_stride,
               values + head * head_stride, tables + table_starts[row], block_size, num_keys[row], group, head_dim,
               scale, out + (row * num_heads + head * group) * head_dim);
    }
}

void polymath_silu_mul(const bf16* gate_up, bf16* out, int64_t rows, int64_t n) {
#pragma omp parallel for num_threads(num_threads) collapse(2) if (rows >= 4)
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t start = 0; start < n; start += 1024) {
            const bf16 *gate = gate_up + row * 2 * n, *up = gate + n;
            int64_t stop = std::min(n, start + 1024);
#pragma omp simd
            for (int64_t i = start; i < stop; ++i) {
                float value = wide(gate[i]);
                out[row * n + i] = narrow(rounded(value / (1.0f + exponential(-value))) * wide(up[i]));
            }
        }
}

// `rows` are the adapted rows, those of one adapter together; run i is rows [starts[i], starts[i + 1]) with slots[i].
void polymath_lora(const Adapter* table, int64_t stride, const int32_t* slots, const int32_t* starts, int64_t num_runs,
                   const int32_t* rows, const bf16* x, int64_t in_features, bf16* out, int64_t out_width, bf16* reduced) {
#pragma omp parallel num_threads(num_threads)
    {
        for (int64_t run = 0; run < num_runs; ++run) {
            const Adapter& adapter = table[slots[run] * stride];
            const int32_t* own_rows = rows + starts[run];
            int64_t num_rows = starts[run + 1] - starts[run];
            // By halves of the rows too: a single target of rank 16 would keep one thread busy and the others waiting.
            int64_t half = num_rows < 8 ? num_rows : (num_rows / 2 + 7) / 8 * 8, parts = num_rows <= half ? 1 : 2;
            for (int t = 0; t < kTargets; ++t) {
                const Target& target = adapter.targets[t];
#pragma omp for schedule(dynamic, 1) nowait
                for (int64_t task = 0; task < (target.rank + kLanes - 1) / kLanes * parts; ++task) {
                    int64_t first = task % parts * half, count = std::min(half, num_rows - first);
                    reduce(target, task / parts * kLanes, own_rows + first, parts == 1 ? num_rows : count, x, in_features,
                           reduced, t * kMaxRank);
                }
            }
        }
#pragma omp barrier
        for (int64_t run = 0; run < num_runs; ++run) {
            const Adapter& adapter = table[slots[run] * stride];
            for (int t = 0; t < kTargets; ++t) {
                const Target& target = adapter.targets[t];
                if (target.rank == 0) continue;
#pragma omp for schedule(static) nowait
                for (int64_t start = 0; start < target.out_features; start += kLanes)
                    expand(target, static_cast<float>(adapter.scale), start, rows + starts[run], starts[run + 1] - starts[run],
                           reduced, t * kMaxRank, out, out_width);
            }
        }
    }
}

#if defined(POLYMATH_HAS_LINEAR)
// out [rows, out_features] = x [rows, in_features] times a packed weight; both widths are multiples of 16. `scratch` has room for
// rows rounded up to whole tiles, `row_scale` for as many floats.
void polymath_linear(const bf16* x, int64_t rows, const PackedWeight* weight, bf16* out, uint8_t* scratch, float* row_scale) {
    if (rows == 0) return;  // no row of this step is sampled
    int64_t num_tiles = (rows + kTall - 1) / kTall, height = (rows + num_tiles - 1) / num_tiles;
    bool is_int8 = weight->scale != nullptr;
    const Shape& shape = is_int8 ? kShapes<Int8>[height - 1] : kShapes<Bf16>[height - 1];
    int64_t n = weight->in_features, steps = n / (is_int8 ? 4 : 2), num_blocks = weight->out_features / kLanes;
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; ++row) {
            uint8_t* place = scratch + row / height * steps * 4 * height + row % height * 4;
            if (is_int8)
                quantize_row(x + row * n, n, place, height * 4, row_scale + row);
            else
                interleave_row(x + row * n, n, place, height * 4);
        }
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < num_blocks; block += shape.blocks) {
            if (block + shape.blocks <= num_blocks) {
                shape.several(scratch, steps, row_scale, rows, *weight, block, out);
            } else {
                for (int64_t last = block; last < num_blocks; ++last)
                    shape.one(scratch, steps, row_scale, rows, *weight, last, out);
            }
        }
    }
}
#endif

}  // extern "C"
