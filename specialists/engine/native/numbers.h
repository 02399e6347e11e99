// bf16 numbers, sixteen at a time, and e^x.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// A loop that is written out, so that what it goes over stays in registers.
#define POLYMATH_EACH(index, count) _Pragma("GCC unroll 32") for (int index = 0; index < (count); ++index)

namespace {

using bf16 = uint16_t;

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

constexpr int kLanes = 16;     // numbers in one vector register

// sums += x[0] * pairs[lane][0] + x[1] * pairs[lane][1], for 16 lanes; `x` holds two bf16 numbers.
#if defined(__AVX512BF16__)
using Lanes = __m512;
inline Lanes no_lanes() { return _mm512_setzero_ps(); }
inline Lanes add_pair(Lanes sums, uint32_t x, const uint32_t* pairs, int lanes) {
    __m512i w = lanes == kLanes ? _mm512_loadu_si512(pairs)
                                : _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << lanes) - 1), pairs);
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(x)), (__m512bh)w);
}
inline Lanes plus(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
inline void store(Lanes sums, float* out) { _mm512_storeu_ps(out, sums); }
inline Lanes load(const float* values) { return _mm512_loadu_ps(values); }
inline Lanes scaled(Lanes values, float scale) { return _mm512_mul_ps(values, _mm512_set1_ps(scale)); }
inline Lanes minus(Lanes values, float x) { return _mm512_sub_ps(values, _mm512_set1_ps(x)); }
inline Lanes first_of(Lanes values, int count, float rest) {
    return _mm512_mask_blend_ps(static_cast<__mmask16>((1u << count) - 1), _mm512_set1_ps(rest), values);
}
inline float largest(Lanes values) { return _mm512_reduce_max_ps(values); }
inline float total(Lanes values) { return _mm512_reduce_add_ps(values); }
// As `exponential` of one number, for x <= 88.
inline Lanes exponentials(Lanes x) {
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);  // in this order a NaN stays one
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fmadd_ps(whole, _mm512_set1_ps(2.12194440e-4f), rest);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    for (float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(factor));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, rest), rest, _mm512_add_ps(rest, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, whole);
}
inline Lanes add_product(Lanes sums, float x, Lanes values) { return _mm512_fmadd_ps(_mm512_set1_ps(x), values, sums); }
// place += scale * sums, for the first `lanes` of 16 bf16 numbers
inline void add_scaled(Lanes sums, float scale, bf16* place, int lanes) {
    if (lanes < kLanes) {
        float values[kLanes];
        store(sums, values);
        for (int i = 0; i < lanes; ++i) place[i] = narrow(wide(place[i]) + scale * values[i]);
        return;
    }
    __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
    __m512 before = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    __m512 after = _mm512_fmadd_ps(_mm512_set1_ps(scale), sums, before);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), (__m256i)_mm512_cvtneps_pbh(after));
}
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
inline Lanes plus(Lanes a, Lanes b) {
    for (int i = 0; i < kLanes; ++i) a.values[i] += b.values[i];
    return a;
}
inline void store(Lanes sums, float* out) { std::memcpy(out, sums.values, sizeof sums.values); }
inline Lanes load(const float* values) {
    Lanes result;
    std::memcpy(result.values, values, sizeof result.values);
    return result;
}
inline Lanes scaled(Lanes values, float scale) {
    for (float& value : values.values) value *= scale;
    return values;
}
inline Lanes minus(Lanes values, float x) {
    for (float& value : values.values) value -= x;
    return values;
}
inline Lanes first_of(Lanes values, int count, float rest) {
    for (int i = count; i < kLanes; ++i) values.values[i] = rest;
    return values;
}
inline float largest(Lanes values) { return *std::max_element(values.values, values.values + kLanes); }
inline float total(Lanes values) {
    float sum = 0.0f;
    for (float value : values.values) sum += value;
    return sum;
}
inline Lanes exponentials(Lanes values) {
    for (float& value : values.values) value = exponential(value);
    return values;
}
inline Lanes add_product(Lanes sums, float x, Lanes values) {
    for (int i = 0; i < kLanes; ++i) sums.values[i] += x * values.values[i];
    return sums;
}
inline void add_scaled(Lanes sums, float scale, bf16* place, int lanes) {
    for (int i = 0; i < lanes; ++i) place[i] = narrow(wide(place[i]) + scale * sums.values[i]);
}
#endif

inline uint32_t pair_at(const bf16* x, int64_t pair) {
    uint32_t bits;
    std::memcpy(&bits, x + 2 * pair, sizeof bits);
    return bits;
}

}  // namespace
