// Attention of new tokens over the block cache.
#pragma once

#include "numbers.h"

namespace {

constexpr int kMaxGroup = 16;  // query heads that may share a key head
constexpr int kMaxHead = 256;
constexpr int kMaxVectors = 32;  // query vectors that look at the same keys at a time

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

// A running softmax over the keys met so far, for one query vector.
struct Attended {
    float sums[kMaxHead] = {}, total = 0.0f, highest = -std::numeric_limits<float>::infinity();
};

// Sixteen keys of one head, `pairs` [head_dim / 2][16] of their numbers, and their values [16][kMaxHead], for one query vector
// that sees the first `count` of them.
inline void attend_to(Attended& state, const bf16* query, const uint32_t (*pairs)[kLanes], const float (*values)[kMaxHead],
                      int count, int head_dim, float scale) {
    Lanes even = no_lanes(), odd = no_lanes();
    for (int pair = 0; pair < head_dim / 2; pair += 2) {
        even = add_pair(even, pair_at(query, pair), pairs[pair], kLanes);
        odd = add_pair(odd, pair_at(query, pair + 1), pairs[pair + 1], kLanes);
    }
    float weights[kLanes], more[kLanes], top = state.highest, added = 0.0f;
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
    if (state.highest != top) {
        float shrink = exponential(state.highest - top);
        state.total *= shrink;
#pragma omp simd
        for (int d = 0; d < head_dim; ++d) state.sums[d] *= shrink;
        state.highest = top;
    }
    state.total += added;
    for (int first = 0; first < head_dim; first += 64)
        add_values(state.sums + first, std::min(64, head_dim - first), weights, &values[0][first], count);
}

// Attention over the cache's blocks of the query heads that share a key head, in one row or a few consecutive rows of one prompt:
// keys and values are read and turned once for all of them. Row r sees num_keys[r] keys, which do not become fewer; what it
// gets does not depend on the rows beside it.
void attend(const bf16* query, int64_t query_stride, int rows, const bf16* keys, const bf16* values, const int64_t* blocks,
            int64_t block_size, const int64_t* num_keys, int group, int head_dim, float scale, bf16* out, int64_t out_stride) {
    Attended states[kMaxVectors];
    float widened[kLanes][kMaxHead];
    uint32_t pairs[kMaxHead / 2][kLanes] = {};
    for (int64_t start = 0; start < num_keys[rows - 1]; start += kLanes) {
        int count = static_cast<int>(std::min<int64_t>(kLanes, num_keys[rows - 1] - start));
        for (int j = 0; j < count; ++j) {
            int64_t position = start + j;
            int64_t place = (blocks[position / block_size] * block_size + position % block_size) * head_dim;
            for (int pair = 0; pair < head_dim / 2; ++pair) pairs[pair][j] = pair_at(keys + place, pair);
#pragma omp simd
            for (int d = 0; d < head_dim; ++d) widened[j][d] = wide(values[place + d]);
        }
        for (int r = 0; r < rows; ++r) {
            int seen = static_cast<int>(std::min<int64_t>(count, num_keys[r] - start));
            for (int g = 0; g < group && seen > 0; ++g)
                attend_to(states[r * group + g], query + r * query_stride + g * head_dim, pairs, widened, seen, head_dim, scale);
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int g = 0; g < group; ++g) {
            const Attended& state = states[r * group + g];
            for (int d = 0; d < head_dim; ++d) out[r * out_stride + g * head_dim + d] = narrow(state.sums[d] / state.total);
        }
}

}  // namespace
