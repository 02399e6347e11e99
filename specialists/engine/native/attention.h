// Attention of one new token over the block cache.
#pragma once

#include "numbers.h"

namespace {

constexpr int kMaxGroup = 16;  // query heads that may share a key head
constexpr int kMaxHead = 256;

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

}  // namespace
