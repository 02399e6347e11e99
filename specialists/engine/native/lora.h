// What one adapter adds to some rows.
#pragma once

#include "numbers.h"

namespace {

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

// The adapted rows of one step, those of one adapter together: run i is rows [starts[i], starts[i + 1]) with slots[i].
struct LoraRows {
    int64_t stride;  // structs Adapter from one slot to the next
    const int32_t* slots;
    const int32_t* starts;
    int64_t num_runs;
    const int32_t* rows;
    bf16* reduced;  // scratch, [rows of the step][kReducedWidth]
};

constexpr int64_t kAhead = 256;  // pairs fetched before they are needed

// The products of some rows with 16 (or `lanes`) columns of `pairs` [num_pairs][lanes], given to `take(row, sums)`. Even and odd
// pairs are summed apart: so few rows would otherwise wait for each other's last addition.
template <int Rows, typename Take>
inline void multiply(const bf16* const* x, const uint32_t* pairs, int64_t num_pairs, int lanes, Take&& take) {
    Lanes even[Rows], odd[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) even[r] = odd[r] = no_lanes();
    int64_t pair = 0;
    for (; pair + 1 < num_pairs; pair += 2) {
        __builtin_prefetch(pairs + pair * lanes + kAhead);
        __builtin_prefetch(pairs + (pair + 1) * lanes + kAhead);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            even[r] = add_pair(even[r], pair_at(x[r], pair), pairs + pair * lanes, lanes);
            odd[r] = add_pair(odd[r], pair_at(x[r], pair + 1), pairs + (pair + 1) * lanes, lanes);
        }
    }
    if (pair < num_pairs)
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) even[r] = add_pair(even[r], pair_at(x[r], pair), pairs + pair * lanes, lanes);
    for (int r = 0; r < Rows; ++r) take(r, plus(even[r], odd[r]));
}

template <typename Take>
inline void multiply_rows(const bf16* const* x, int64_t rows, const uint32_t* pairs, int64_t num_pairs, int lanes, Take&& take) {
    int64_t r = 0;
    for (; rows - r >= 8; r += 8) multiply<8>(x + r, pairs, num_pairs, lanes, [&](int i, Lanes sums) { take(r + i, sums); });
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

inline const Adapter& adapter_of(const Adapter* table, const LoraRows& step, int64_t run) {
    return table[step.slots[run] * step.stride];
}

// `Blocks` times 16 outputs (or one time `lanes`), of `Rows` rows: places[r] += scale * B reduced[r].
template <int Rows, int Blocks>
inline void expand_tile(const uint32_t* pairs, int64_t num_pairs, int lanes, const bf16* const* reduced, float scale,
                        bf16* const* places, int64_t column) {
    Lanes sums[Rows][Blocks];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int b = 0; b < Blocks; ++b) sums[r][b] = no_lanes();
    for (int64_t pair = 0; pair < num_pairs; ++pair)
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int b = 0; b < Blocks; ++b)
                sums[r][b] = add_pair(sums[r][b], pair_at(reduced[r], pair), pairs + (b * num_pairs + pair) * lanes, lanes);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int b = 0; b < Blocks; ++b) add_scaled(sums[r][b], scale, places[r] + column + b * kLanes, lanes);
}

// The outputs [start, stop) of one target, for the rows of one run. `start` is a multiple of 16; so is `stop`, or it is the end.
// Four sums are made at a time, of four rows or of four blocks: one alone would wait for its own last addition.
void expand(const Adapter* table, const LoraRows& step, int64_t run, int number, int64_t start, int64_t stop, bf16* out,
            int64_t out_width) {
    const Adapter& adapter = adapter_of(table, step, run);
    const Target& target = adapter.targets[number];
    int64_t num_pairs = target.rank / 2;
    float scale = static_cast<float>(adapter.scale);
    constexpr int kMany = 4;
    for (int64_t i = step.starts[run]; i < step.starts[run + 1]; i += kMany) {
        int64_t count = std::min<int64_t>(kMany, step.starts[run + 1] - i);
        const bf16* reduced[kMany];
        bf16* places[kMany];
        for (int64_t r = 0; r < count; ++r) {
            reduced[r] = step.reduced + step.rows[i + r] * kReducedWidth + number * kMaxRank;
            places[r] = out + step.rows[i + r] * out_width + target.out_start;
        }
        for (int64_t column = start; column < stop;) {
            const uint32_t* pairs = target.b + column * num_pairs;
            int lanes = static_cast<int>(std::min<int64_t>(kLanes, target.out_features - column));
            int64_t width = stop - column >= kMany * kLanes ? kMany * kLanes : kLanes;
            if (lanes == kLanes && count == kMany && width == kLanes)
                expand_tile<kMany, 1>(pairs, num_pairs, kLanes, reduced, scale, places, column);
            else
                for (int64_t r = 0; r < count; ++r)
                    if (width > kLanes)
                        expand_tile<1, kMany>(pairs, num_pairs, kLanes, reduced + r, scale, places + r, column);
                    else
                        expand_tile<1, 1>(pairs, num_pairs, lanes, reduced + r, scale, places + r, column);
            column += width;
        }
    }
}

// All ranks of all rows: the share of one thread out of `num_threads`.
void reduce_share(const Adapter* table, const LoraRows& step, const bf16* x, int64_t in_features, int thread, int num_threads) {
    int64_t number = 0;
    for (int64_t run = 0; run < step.num_runs; ++run) {
        const Adapter& adapter = adapter_of(table, step, run);
        const int32_t* rows = step.rows + step.starts[run];
        int64_t num_rows = step.starts[run + 1] - step.starts[run];
        // By halves of the rows too: a single target of rank 16 would keep one thread busy and the others waiting.
        int64_t half = num_rows < 8 ? num_rows : ((num_rows + 1) / 2 + 7) / 8 * 8, parts = num_rows <= half ? 1 : 2;
        for (int t = 0; t < kTargets; ++t) {
            const Target& target = adapter.targets[t];
            for (int64_t task = 0; task < (target.rank + kLanes - 1) / kLanes * parts; ++task) {
                if (number++ % num_threads != thread) continue;
                int64_t first = task % parts * half, count = std::min(half, num_rows - first);
                reduce(target, task / parts * kLanes, rows + first, count, x, in_features, step.reduced, t * kMaxRank);
            }
        }
    }
}

// Calls `take(run, target, first, last)` for what lies in the outputs [start, stop) of each run's targets.
template <typename Take>
inline void each_target(const Adapter* table, const LoraRows& step, int64_t start, int64_t stop, Take&& take) {
    for (int64_t run = 0; run < step.num_runs; ++run)
        for (int t = 0; t < kTargets; ++t) {
            const Target& target = adapter_of(table, step, run).targets[t];
            int64_t first = std::max(start - target.out_start, int64_t{0});
            int64_t last = std::min(stop - target.out_start, target.out_features);
            if (target.rank != 0 && first < last) take(run, t, first, last);
        }
}

// Brings into the cache what `expand_outputs` will read.
inline void prefetch_outputs(const Adapter* table, const LoraRows& step, int64_t start, int64_t stop) {
    each_target(table, step, start, stop, [&](int64_t run, int t, int64_t first, int64_t last) {
        const Target& target = adapter_of(table, step, run).targets[t];
        for (int64_t pair = first * target.rank / 2; pair < last * target.rank / 2; pair += kLanes)
            __builtin_prefetch(target.b + pair);
    });
}

// The outputs [start, stop) of all rows, once all is reduced. Both, and where each target begins, are multiples of 16.
inline void expand_outputs(const Adapter* table, const LoraRows& step, int64_t start, int64_t stop, bf16* out, int64_t out_width) {
    each_target(table, step, start, stop, [&](int64_t run, int t, int64_t first, int64_t last) {
        expand(table, step, run, t, first, last, out, out_width);
    });
}

}  // namespace
