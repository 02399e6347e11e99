// The small operations of a decode step, fused for a CPU, and products with 8-bit weights.
//
// Every function computes each row from that row alone, in an order fixed by the row's own length: who shares the batch
// changes nothing. bf16 numbers travel as uint16_t and are rounded where the checkpoints' own code rounds.
// Plain C interface, called by kernels.py; shapes are given there. Compiled on the machine it runs on.

#include <omp.h>

#include "attention.h"
#include "linear.h"
#include "lora.h"
#include "numbers.h"
#include "rows.h"

namespace {
int num_threads = 1;
}

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

// Row i looks at the blocks from tables[table_starts[i]] on. With `is_chunk` all rows are consecutive tokens of one prompt.
void polymath_attention(const bf16* query, int64_t query_stride, int64_t rows, int num_heads, int num_kv_heads,
                        int head_dim, const bf16* keys, const bf16* values, int64_t head_stride,
                        const int64_t* tables, const int64_t* table_starts, const int64_t* num_keys,
                        int64_t block_size, float scale, bf16* out, int is_chunk) {
    int group = num_heads / num_kv_heads, at_once = is_chunk ? rows_at_once(group) : 1;
    int64_t out_stride = static_cast<int64_t>(num_heads) * head_dim, num_parts = (rows + at_once - 1) / at_once;
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < num_parts * num_kv_heads; ++task) {
        // The last rows of a prompt see the most keys: they go first, so that no thread ends with the longest.
        int64_t row = (num_parts - 1 - task / num_kv_heads) * at_once, head = task % num_kv_heads;
        int count = static_cast<int>(std::min<int64_t>(at_once, rows - row));
        attend(query + row * query_stride + head * group * head_dim, query_stride, count, keys + head * head_stride,
               values + head * head_stride, tables + table_starts[row], block_size, num_keys + row, group, head_dim, scale,
               out + row * out_stride + head * group * head_dim, out_stride);
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

// What the adapters of a step add to the result `out` of another product; `table` is that of the product's layer and group.
void polymath_lora(const Adapter* table, const LoraRows* step, const bf16* x, int64_t in_features, bf16* out, int64_t out_width) {
#pragma omp parallel num_threads(num_threads)
    {
        reduce_share(table, *step, x, in_features, omp_get_thread_num(), omp_get_num_threads());
#pragma omp barrier
        for (int64_t run = 0; run < step->num_runs; ++run)
            for (int t = 0; t < kTargets; ++t) {
                const Target& target = adapter_of(table, *step, run).targets[t];
                if (target.rank == 0) continue;
#pragma omp for schedule(static) nowait
                for (int64_t start = 0; start < target.out_features; start += kLanes)
                    expand(table, *step, run, t, start, std::min(start + kLanes, target.out_features), out, out_width);
            }
    }
}

#if defined(POLYMATH_HAS_LINEAR)
// out [rows, out_features] = x [rows, in_features] times a packed weight; both widths are multiples of 16. `scratch` has room for
// rows rounded up to whole tiles, `row_scale` for as many floats. With a `table` the adapters of `step` are added, as
// polymath_lora would: in the same parallel region, and while the outputs are still in the cache.
void polymath_linear(const bf16* x, int64_t rows, const PackedWeight* weight, bf16* out, uint8_t* scratch, float* row_scale,
                     const Adapter* table, const LoraRows* step) {
    if (rows == 0) return;  // no row of this step is sampled
    int64_t num_tiles = (rows + kTall - 1) / kTall, height = (rows + num_tiles - 1) / num_tiles;
    bool is_int8 = weight->scale != nullptr;
    const Shape& shape = is_int8 ? kShapes<Int8>[height - 1] : kShapes<Bf16>[height - 1];
    int64_t n = weight->in_features, steps = n / (is_int8 ? 4 : 2), num_blocks = weight->out_features / kLanes;
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < rows; ++row) {
            uint8_t* place = scratch + row / height * steps * 4 * height + row % height * 4;
            if (is_int8)
                quantize_row(x + row * n, n, place, height * 4, row_scale + row);
            else
                interleave_row(x + row * n, n, place, height * 4);
        }
        if (table) reduce_share(table, *step, x, n, omp_get_thread_num(), omp_get_num_threads());
#pragma omp barrier
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < num_blocks; block += shape.blocks) {
            int64_t start = block * kLanes, stop = std::min(block + shape.blocks, num_blocks) * kLanes;
            if (table) prefetch_outputs(table, *step, start, stop);
            if (block + shape.blocks <= num_blocks) {
                shape.several(scratch, steps, row_scale, rows, *weight, block, out);
            } else {
                for (int64_t last = block; last < num_blocks; ++last)
                    shape.one(scratch, steps, row_scale, rows, *weight, last, out);
            }
            if (table) expand_outputs(table, *step, start, stop, out, weight->out_features);
        }
    }
}
#endif

}  // extern "C"
