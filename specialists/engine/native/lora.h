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

}  // namespace
