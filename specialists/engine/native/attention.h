// Attention of new tokens over the block cache.
#pragma once

#include "numbers.h"

namespace {

constexpr int kMaxGroup = 16;  // query heads that may share a key head
constexpr int kMaxHead = 256;
constexpr int kMaxVectors = 64;       // query vectors that look at the same keys, turned once for all of them
constexpr int kTile = 4;              // of them that take turns at one load of keys or values
constexpr int kGroups = 4;            // groups of sixteen keys at a time
constexpr int kKeys = kGroups * kLanes;
constexpr int kColumns = 4;           // vector registers of values that stay loaded meanwhile

// A running softmax over the keys met so far, for one query vector.
struct Attended {
    alignas(64) float sums[kMaxHead];
    float total, highest;
};

// Up to kKeys keys of one head: `pairs` [group][head_dim / 2][16] of their numbers, and their values [kKeys][width].
struct Block {
    alignas(64) uint32_t pairs[kGroups][kMaxHead / 2][kLanes];
    alignas(64) float values[kKeys * kMaxHead];
    int head_dim, width;  // width: head_dim rounded up to whole registers
};

// One query vector and how many of a block's keys it sees.
struct Looking {
    Attended* state;
    const bf16* query;
    int count;
};

// Scores of a block's keys, of which the first `count` are seen, to weights; what the sums so far must be multiplied by.
template <int Groups>
inline float weigh(Attended& state, Lanes* scores, int count, float* weights) {
    float top = state.highest;
    POLYMATH_EACH(k, Groups) {
        int seen = std::min(std::max(count - k * kLanes, 0), kLanes);
        scores[k] = first_of(scores[k], seen, -std::numeric_limits<float>::infinity());
        top = std::max(top, largest(scores[k]));
    }
    Lanes added = no_lanes();
    POLYMATH_EACH(k, Groups) {
        int seen = std::min(std::max(count - k * kLanes, 0), kLanes);
        Lanes weight = first_of(exponentials(minus(scores[k], top)), seen, 0.0f);
        store(weight, weights + k * kLanes);
        added = plus(added, weight);
    }
    float shrink = state.highest == top ? 1.0f : exponential(state.highest - top);
    state.total = state.total * shrink + total(added);
    state.highest = top;
    return shrink;
}

// `Columns` registers of the values, from column `first` on, into the sums of N query vectors.
template <int N, int Columns>
inline void add_values(const Looking* looking, const float (*weights)[kKeys], const float* shrink, const Block& block,
                       int num_keys, int first) {
    Lanes sums[N][Columns];
    POLYMATH_EACH(n, N)
        POLYMATH_EACH(c, Columns) sums[n][c] = scaled(load(looking[n].state->sums + first + c * kLanes), shrink[n]);
    const float* values = block.values + first;
    for (int j = 0; j < num_keys; ++j, values += block.width) {
        Lanes value[Columns];
        POLYMATH_EACH(c, Columns) value[c] = load(values + c * kLanes);
        POLYMATH_EACH(n, N)
            POLYMATH_EACH(c, Columns) sums[n][c] = add_product(sums[n][c], weights[n][j], value[c]);
    }
    POLYMATH_EACH(n, N)
        POLYMATH_EACH(c, Columns) store(sums[n][c], looking[n].state->sums + first + c * kLanes);
}

// The first `Groups` groups of a block's keys for N query vectors.
template <int N, int Groups>
void attend_to(const Looking* looking, const Block& block, float scale) {
    alignas(64) float weights[N][kKeys];
    float shrink[N];
    Lanes scores[N][Groups];
    POLYMATH_EACH(n, N)
        POLYMATH_EACH(k, Groups) scores[n][k] = no_lanes();
    for (int pair = 0; pair < block.head_dim / 2; ++pair)
        POLYMATH_EACH(n, N) {
            uint32_t query = pair_at(looking[n].query, pair);
            POLYMATH_EACH(k, Groups) scores[n][k] = add_pair(scores[n][k], query, block.pairs[k][pair], kLanes);
        }
    POLYMATH_EACH(n, N) {
        POLYMATH_EACH(k, Groups) scores[n][k] = scaled(scores[n][k], scale);
        shrink[n] = weigh<Groups>(*looking[n].state, scores[n], looking[n].count, weights[n]);
    }
    int column = 0;
    for (; column + kColumns * kLanes <= block.width; column += kColumns * kLanes)
        add_values<N, kColumns>(looking, weights, shrink, block, Groups * kLanes, column);
    for (; column < block.width; column += kLanes)
        add_values<N, 1>(looking, weights, shrink, block, Groups * kLanes, column);
}

template <int Groups>
void attend_all(const Looking* looking, int num, const Block& block, float scale) {
    int done = 0;
    for (; done + kTile <= num; done += kTile) attend_to<kTile, Groups>(looking + done, block, scale);
    for (; done < num; ++done) attend_to<1, Groups>(looking + done, block, scale);
}

// Reads and turns `count` keys from position `start` on. The values behind them, up to a whole group, become zero: what nobody
// sees is multiplied by zero, and must be finite for that.
inline void fill(Block& block, const bf16* keys, const bf16* values, const int64_t* blocks, int64_t block_size, int64_t start,
                 int count) {
    for (int j = 0; j < count; ++j) {
        int64_t position = start + j;
        int64_t place = (blocks[position / block_size] * block_size + position % block_size) * block.head_dim;
        uint32_t(*pairs)[kLanes] = block.pairs[j / kLanes];
        for (int pair = 0; pair < block.head_dim / 2; ++pair) pairs[pair][j % kLanes] = pair_at(keys + place, pair);
        float* wide_values = block.values + j * block.width;
#pragma omp simd
        for (int d = 0; d < block.head_dim; ++d) wide_values[d] = wide(values[place + d]);
    }
    int whole = (count + kLanes - 1) / kLanes * kLanes;
    std::memset(block.values + count * block.width, 0, sizeof(float) * (whole - count) * block.width);
}

// Rows of a prompt that look at a block together: as many as there is room for, and their vectors a whole number of tiles.
inline int rows_at_once(int group) {
    int rows = std::max(kMaxVectors / group, 1);
    while (rows > 1 && rows * group % kTile) --rows;
    return rows;
}

// Attention over the cache's blocks of the query heads that share a key head, in one row or a few consecutive rows of one prompt:
// keys and values are read and turned once for all of them. Row r sees num_keys[r] keys, which do not become fewer; what it
// gets does not depend on the rows beside it.
void attend(const bf16* query, int64_t query_stride, int rows, const bf16* keys, const bf16* values, const int64_t* blocks,
            int64_t block_size, const int64_t* num_keys, int group, int head_dim, float scale, bf16* out, int64_t out_stride) {
    constexpr void (*kAttend[kGroups])(const Looking*, int, const Block&, float) = {attend_all<1>, attend_all<2>, attend_all<3>,
                                                                                    attend_all<4>};
    Attended states[kMaxVectors];
    Block block;
    block.head_dim = head_dim;
    block.width = (head_dim + kLanes - 1) / kLanes * kLanes;
    for (int v = 0; v < rows * group; ++v) {
        std::memset(states[v].sums, 0, sizeof(float) * block.width);
        states[v].total = 0.0f;
        states[v].highest = -std::numeric_limits<float>::infinity();
    }
    for (int64_t start = 0; start < num_keys[rows - 1]; start += kKeys) {
        int count = static_cast<int>(std::min<int64_t>(kKeys, num_keys[rows - 1] - start));
        fill(block, keys, values, blocks, block_size, start, count);
        Looking looking[kMaxVectors];
        int num = 0;
        for (int r = 0; r < rows; ++r) {
            int seen = static_cast<int>(std::min<int64_t>(count, num_keys[r] - start));
            for (int g = 0; g < group && seen > 0; ++g)
                looking[num++] = {&states[r * group + g], query + r * query_stride + g * head_dim, seen};
        }
        kAttend[(count - 1) / kLanes](looking, num, block, scale);
    }
    for (int r = 0; r < rows; ++r)
        for (int g = 0; g < group; ++g) {
            const Attended& state = states[r * group + g];
            for (int d = 0; d < head_dim; ++d) out[r * out_stride + g * head_dim + d] = narrow(state.sums[d] / state.total);
        }
}

}  // namespace
