/* The operations between a layer's products, each in one walk over its rows.
 *
 * What every function computes stands written with torch in parts.py, attention.py and forward.py. Values are
 * float32 (`wide`) or bfloat16, arithmetic is in float32, and norms and gates round where the network's own modules
 * do. Tensors are contiguous, sizes are in values.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define DO(text) _Pragma(#text)
/* Over rows; threads are not woken for `values` of less than they would take to wake up. What differs by dtype is
   chosen within the loop: the compiler knows no constants of the outside there. */
#define PARALLEL(values) DO(omp parallel for schedule(static) if ((values) >= 16384))
/* Several values at once: a place that is written is read for itself alone. */
#define EACH DO(omp simd)
/* The same for sums and maxima; the order of additions is the compiler's. */
#define SUM(of) DO(omp simd reduction(+ : of))
#define MOST(of) DO(omp simd reduction(max : of))

/* ---- values ---- */

INLINE float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* To the nearest bfloat16, ties to even. What is not a number stays so as this processor makes it, quiet and with
   nothing in the bits below. */
INLINE uint16_t narrowed(float value) {
    uint32_t bits = float_bits(value);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

INLINE float get(const void *values, int64_t place, int wide) {
    return wide ? ((const float *)values)[place] : bits_float((uint32_t)((const uint16_t *)values)[place] << 16);
}

INLINE void put(void *values, int64_t place, float value, int wide) {
    if (wide)
        ((float *)values)[place] = value;
    else
        ((uint16_t *)values)[place] = narrowed(value);
}

INLINE float rounded(float value, int wide) {
    return wide ? value : bits_float((uint32_t)narrowed(value) << 16);
}

/* e^x within two units in the last place: the nearest power of two, times a polynomial. Nothing that is not far below
   what float32 adds to 1 comes of x under -87, and infinity of x over 88. */
INLINE float exponential(float x) {
    float above = x > 88.0f ? INFINITY : 0.0f;
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float power = floorf(x * 1.44269504f + 0.5f);
    float rest = x - power * 0.693359375f + power * 2.12194440e-4f;
    float sum = 1.0f / 5040.0f;
    sum = sum * rest + 1.0f / 720.0f;
    sum = sum * rest + 1.0f / 120.0f;
    sum = sum * rest + 1.0f / 24.0f;
    sum = sum * rest + 1.0f / 6.0f;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    return sum * bits_float((uint32_t)((int32_t)power + 127) << 23) + above;
}

/* ---- norms ---- */

INLINE void norm_row(void *x, const void *added, const void *weight, void *y, float *factor, int64_t row,
                     int64_t size, float eps, int given, int wide) {
    int64_t at = row * size;
    if (added)
        EACH
        for (int64_t i = 0; i < size; i++)
            put(x, at + i, get(x, at + i, wide) + get(added, at + i, wide), wide);
    if (!given) {
        float squares = 0.0f;
        SUM(squares)
        for (int64_t i = 0; i < size; i++) {
            float value = get(x, at + i, wide);
            squares += value * value;
        }
        factor[row] = 1.0f / sqrtf(squares / (float)size + eps);
    }
    float scale = factor[row];
    EACH
    for (int64_t i = 0; i < size; i++)
        put(y, at + i, rounded(get(x, at + i, wide) * scale, wide) * get(weight, i, wide), wide);
}

void tw_norm(void *x, const void *added, const void *weight, void *y, float *factor, int64_t rows, int64_t size,
             float eps, int given, int wide) {
    PARALLEL(rows * size)
    for (int64_t row = 0; row < rows; row++)
        if (wide)
            norm_row(x, added, weight, y, factor, row, size, eps, given, 1);
        else
            norm_row(x, added, weight, y, factor, row, size, eps, given, 0);
}

INLINE void norm_back_row(const void *x, const float *factor, const void *weight, const void *to_y,
                          const void *more, void *to_x, int64_t row, int64_t size, int wide) {
    int64_t at = row * size;
    float scale = factor[row], along = 0.0f;
    SUM(along)
    for (int64_t i = 0; i < size; i++)
        along += rounded(get(to_y, at + i, wide) * get(weight, i, wide), wide) * get(x, at + i, wide);
    along *= scale / (float)size;
    float kept = more ? 1.0f : 0.0f;
    more = more ? more : to_y;
    EACH
    for (int64_t i = 0; i < size; i++) {
        float to_unit = rounded(get(to_y, at + i, wide) * get(weight, i, wide), wide);
        float value = (to_unit - get(x, at + i, wide) * scale * along) * scale;
        put(to_x, at + i, value + kept * get(more, at + i, wide), wide);
    }
}

void tw_norm_back(const void *x, const float *factor, const void *weight, const void *to_y, const void *more,
                  void *to_x, int64_t rows, int64_t size, int wide) {
    PARALLEL(rows * size)
    for (int64_t row = 0; row < rows; row++)
        if (wide)
            norm_back_row(x, factor, weight, to_y, more, to_x, row, size, 1);
        else
            norm_back_row(x, factor, weight, to_y, more, to_x, row, size, 0);
}

/* ---- gates ---- */

enum { SILU, GELU_TANH };
#define ROOT 0.7978845608f /* of 2 / pi */
#define CUBE 0.044715f
/* Values that a thread takes at once. */
#define BLOCK 2048

/* How much of `x` is let through: the logistic function of it, for GELU of a polynomial in it. */
INLINE float share(float x, int kind) {
    float inner = kind == SILU ? x : 2.0f * ROOT * (x + CUBE * x * x * x);
    return 1.0f / (1.0f + exponential(-inner));
}

/* The derivative of `x` times its share. */
INLINE float slope(float x, float shared, int kind) {
    float rise = kind == SILU ? 1.0f : 2.0f * ROOT * (1.0f + 3.0f * CUBE * x * x);
    return shared + x * shared * (1.0f - shared) * rise;
}

INLINE void gate_values(const void *gate, const void *through, void *inner, int64_t from, int64_t to, int kind,
                        int wide) {
    EACH
    for (int64_t i = from; i < to; i++) {
        float x = get(gate, i, wide);
        put(inner, i, rounded(x * share(x, kind), wide) * get(through, i, wide), wide);
    }
}

void tw_gate(const void *gate, const void *through, void *inner, int64_t count, int kind, int wide) {
    PARALLEL(count)
    for (int64_t from = 0; from < count; from += BLOCK) {
        int64_t to = from + BLOCK < count ? from + BLOCK : count;
        if (kind == SILU)
            wide ? gate_values(gate, through, inner, from, to, SILU, 1)
                 : gate_values(gate, through, inner, from, to, SILU, 0);
        else
            wide ? gate_values(gate, through, inner, from, to, GELU_TANH, 1)
                 : gate_values(gate, through, inner, from, to, GELU_TANH, 0);
    }
}

INLINE void gate_back_values(const void *gate, const void *through, const void *to_inner, void *to_gate,
                             void *to_through, int64_t from, int64_t to, int kind, int wide) {
    EACH
    for (int64_t i = from; i < to; i++) {
        float x = get(gate, i, wide), back = get(to_inner, i, wide);
        float shared = share(x, kind), to_open = rounded(back * get(through, i, wide), wide);
        put(to_through, i, rounded(x * shared, wide) * back, wide);
        put(to_gate, i, slope(x, shared, kind) * to_open, wide);
    }
}

void tw_gate_back(const void *gate, const void *through, const void *to_inner, void *to_gate, void *to_through,
                  int64_t count, int kind, int wide) {
    PARALLEL(count)
    for (int64_t from = 0; from < count; from += BLOCK) {
        int64_t to = from + BLOCK < count ? from + BLOCK : count;
        if (kind == SILU)
            wide ? gate_back_values(gate, through, to_inner, to_gate, to_through, from, to, SILU, 1)
                 : gate_back_values(gate, through, to_inner, to_gate, to_through, from, to, SILU, 0);
        else
            wide ? gate_back_values(gate, through, to_inner, to_gate, to_through, from, to, GELU_TANH, 1)
                 : gate_back_values(gate, through, to_inner, to_gate, to_through, from, to, GELU_TANH, 0);
    }
}

/* ---- distributions over the vocabulary ---- */

INLINE float log_sum(const void *logits, int64_t row, int64_t size, int wide) {
    int64_t at = row * size;
    float most = -INFINITY;
    MOST(most)
    for (int64_t i = 0; i < size; i++) {
        float logit = get(logits, at + i, wide);
        most = logit > most ? logit : most;
    }
    /* Blocks are added up in double: single sums would lose what is small in a large vocabulary. */
    double sum = 0.0;
    for (int64_t from = 0; from < size; from += BLOCK) {
        int64_t to = from + BLOCK < size ? from + BLOCK : size;
        float part = 0.0f;
        SUM(part)
        for (int64_t i = from; i < to; i++)
            part += exponential(get(logits, at + i, wide) - most);
        sum += part;
    }
    return most + (float)log(sum);
}

void tw_normaliser(const void *logits, float *normaliser, int64_t rows, int64_t size, int wide) {
    PARALLEL(rows * size)
    for (int64_t row = 0; row < rows; row++)
        normaliser[row] = wide ? log_sum(logits, row, size, 1) : log_sum(logits, row, size, 0);
}

INLINE void chances_row(void *logits, float normaliser, int64_t target, int64_t row, int64_t size, int wide) {
    int64_t at = row * size;
    float right = exponential(get(logits, at + target, wide) - normaliser);
    EACH
    for (int64_t i = 0; i < size; i++)
        put(logits, at + i, exponential(get(logits, at + i, wide) - normaliser), wide);
    put(logits, at + target, right - 1.0f, wide);
}

void tw_chances(void *logits, const float *normaliser, const int64_t *targets, int64_t rows, int64_t size, int wide) {
    PARALLEL(rows * size)
    for (int64_t row = 0; row < rows; row++)
        if (wide)
            chances_row(logits, normaliser[row], targets[row], row, size, 1);
        else
            chances_row(logits, normaliser[row], targets[row], row, size, 0);
}

/* ---- rotary positions ---- */

INLINE void turn_in(const void *from, int64_t at, const float *cos, const float *sin, float *to, int64_t size,
                    int wide) {
    int64_t half = size / 2;
    EACH
    for (int64_t i = 0; i < half; i++) {
        float low = get(from, at + i, wide), high = get(from, at + half + i, wide);
        to[i] = low * cos[i] - high * sin[half + i];
        to[half + i] = high * cos[half + i] + low * sin[i];
    }
}

INLINE void turn_out(const float *from, const float *cos, const float *sin, void *to, int64_t at, int64_t size,
                     int wide) {
    int64_t half = size / 2;
    EACH
    for (int64_t i = 0; i < half; i++) {
        float low = from[i], high = from[half + i];
        put(to, at + i, low * cos[i] + high * sin[half + i], wide);
        put(to, at + half + i, high * cos[half + i] - low * sin[i], wide);
    }
}

INLINE void join_token(const void *query, const void *key, const void *value, const float *cos, const float *sin,
                       float *to, int64_t token, int64_t queries, int64_t keys, int64_t size, int wide) {
    for (int64_t head = 0; head < queries; head++, to += size)
        turn_in(query, (token * queries + head) * size, cos, sin, to, size, wide);
    for (int64_t head = 0; head < keys; head++, to += size)
        turn_in(key, (token * keys + head) * size, cos, sin, to, size, wide);
    EACH
    for (int64_t i = 0; i < keys * size; i++)
        to[i] = get(value, token * keys * size + i, wide);
}

void tw_join(const void *query, const void *key, const void *value, const float *cos, const float *sin,
             float *joined, int64_t tokens, int64_t queries, int64_t keys, int64_t size, int wide) {
    int64_t row = (queries + 2 * keys) * size;
    PARALLEL(tokens * row)
    for (int64_t token = 0; token < tokens; token++) {
        const float *c = cos + token * size, *s = sin + token * size;
        if (wide)
            join_token(query, key, value, c, s, joined + token * row, token, queries, keys, size, 1);
        else
            join_token(query, key, value, c, s, joined + token * row, token, queries, keys, size, 0);
    }
}

INLINE void part_token(const float *from, const float *cos, const float *sin, void *query, void *key, void *value,
                       int64_t token, int64_t queries, int64_t keys, int64_t size, int wide) {
    for (int64_t head = 0; head < queries; head++, from += size)
        turn_out(from, cos, sin, query, (token * queries + head) * size, size, wide);
    for (int64_t head = 0; head < keys; head++, from += size)
        turn_out(from, cos, sin, key, (token * keys + head) * size, size, wide);
    EACH
    for (int64_t i = 0; i < keys * size; i++)
        put(value, token * keys * size + i, from[i], wide);
}

void tw_part(const float *joined, const float *cos, const float *sin, void *query, void *key, void *value,
             int64_t tokens, int64_t queries, int64_t keys, int64_t size, int wide) {
    int64_t row = (queries + 2 * keys) * size;
    PARALLEL(tokens * row)
    for (int64_t token = 0; token < tokens; token++) {
        const float *c = cos + token * size, *s = sin + token * size;
        if (wide)
            part_token(joined + token * row, c, s, query, key, value, token, queries, keys, size, 1);
        else
            part_token(joined + token * row, c, s, query, key, value, token, queries, keys, size, 0);
    }
}

/* ---- attention of frames ---- */

/* WIDEST, places of the widest frame, comes from kernels.py. */
#define LANES 16

/* Places of a frame that `query` sees, those up to itself; what has ended before it is jumped over. */
INLINE int64_t seen_by(const int64_t *ends, int64_t first, int64_t query, int64_t *seen) {
    int64_t count = 0, place = first;
    while (place <= query) {
        if (ends[place] > query)
            seen[count++] = place++;
        else
            place = ends[place] > place ? ends[place] : place + 1;
    }
    return count;
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
typedef union {
    Sixteen all;
    Eight halves[2];
} Halved;
typedef union {
    Eight all;
    Four halves[2];
} Quartered;

INLINE float total(Sixteen values) {
    Halved sixteen = {.all = values};
    Quartered eight = {.all = sixteen.halves[0] + sixteen.halves[1]};
    Four four = eight.halves[0] + eight.halves[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE float dot(const float *a, const float *b, int64_t size) {
    Sixteen sums = {0};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES)
        sums += *(const Sixteen *)(a + i) * *(const Sixteen *)(b + i);
    float sum = total(sums);
    for (; i < size; i++)
        sum += a[i] * b[i];
    return sum;
}

INLINE void add_times(float *to, const float *from, float factor, int64_t size) {
    EACH
    for (int64_t i = 0; i < size; i++)
        to[i] += factor * from[i];
}

/* Scores become e^(score - less); their sum. `LANES` at a time whatever their number: there is room behind them,
   and what is put there adds nothing. */
INLINE float exponentials(float *scores, int64_t count, float less) {
    Sixteen sums = {0};
    for (int64_t i = 0; i < LANES; i++)
        scores[count + i] = -INFINITY;
    for (int64_t from = 0; from < count; from += LANES) {
        EACH
        for (int64_t i = from; i < from + LANES; i++)
            scores[i] = exponential(scores[i] - less);
        sums += *(const Sixteen *)(scores + from);
    }
    return total(sums);
}

INLINE void attend_head(const float *joined, const int64_t *ends, float *output, float *normaliser, int64_t first,
                        int64_t width, int64_t head, int64_t queries, int64_t keys, int64_t size, float scale) {
    int64_t row = (queries + 2 * keys) * size, shared = queries / keys;
    const float *k = joined + (queries + head) * size, *v = k + keys * size;
    int64_t seen[WIDEST];
    float scores[WIDEST + LANES];
    for (int64_t query = first; query < first + width; query++) {
        int64_t count = seen_by(ends, first, query, seen);
        for (int64_t number = head * shared; number < (head + 1) * shared; number++) {
            const float *q = joined + query * row + number * size;
            float *o = output + (query * queries + number) * size;
            float most = -INFINITY;
            for (int64_t i = 0; i < count; i++) {
                scores[i] = scale * dot(q, k + seen[i] * row, size);
                most = scores[i] > most ? scores[i] : most;
            }
            float sum = exponentials(scores, count, most);
            memset(o, 0, (size_t)size * sizeof *o);
            for (int64_t i = 0; i < count; i++)
                add_times(o, v + seen[i] * row, scores[i] / sum, size);
            normaliser[query * queries + number] = most + logf(sum);
        }
    }
}

void tw_attend(const float *joined, const int64_t *ends, const int64_t *frames, float *output, float *normaliser,
               int64_t count, int64_t queries, int64_t keys, int64_t size, float scale) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t frame = 0; frame < count; frame++)
        for (int64_t head = 0; head < keys; head++) {
            int64_t first = frames[2 * frame], width = frames[2 * frame + 1];
            if (size == 64)
                attend_head(joined, ends, output, normaliser, first, width, head, queries, keys, 64, scale);
            else
                attend_head(joined, ends, output, normaliser, first, width, head, queries, keys, size, scale);
        }
}

INLINE void attend_back_head(const float *grad, const float *joined, const int64_t *ends, const float *output,
                             const float *normaliser, float *back, int64_t first, int64_t width, int64_t head,
                             int64_t queries, int64_t keys, int64_t size, float scale) {
    int64_t row = (queries + 2 * keys) * size, shared = queries / keys;
    const float *k = joined + (queries + head) * size, *v = k + keys * size;
    float *to_k = back + (queries + head) * size, *to_v = to_k + keys * size;
    int64_t seen[WIDEST];
    float chances[WIDEST + LANES];
    for (int64_t place = first; place < first + width; place++) {
        memset(to_k + place * row, 0, (size_t)size * sizeof *to_k);
        memset(to_v + place * row, 0, (size_t)size * sizeof *to_v);
    }
    for (int64_t query = first; query < first + width; query++) {
        int64_t count = seen_by(ends, first, query, seen);
        for (int64_t number = head * shared; number < (head + 1) * shared; number++) {
            const float *q = joined + query * row + number * size;
            const float *g = grad + (query * queries + number) * size;
            float *to_q = back + query * row + number * size;
            float mean = dot(g, output + (query * queries + number) * size, size);
            for (int64_t i = 0; i < count; i++)
                chances[i] = scale * dot(q, k + seen[i] * row, size);
            exponentials(chances, count, normaliser[query * queries + number]);
            memset(to_q, 0, (size_t)size * sizeof *to_q);
            for (int64_t i = 0; i < count; i++) {
                int64_t at = seen[i] * row;
                float to_score = scale * chances[i] * (dot(g, v + at, size) - mean);
                add_times(to_q, k + at, to_score, size);
                add_times(to_k + at, q, to_score, size);
                add_times(to_v + at, g, chances[i], size);
            }
        }
    }
}

void tw_attend_back(const float *grad, const float *joined, const int64_t *ends, const int64_t *frames,
                    const float *output, const float *normaliser, float *back, int64_t count, int64_t queries,
                    int64_t keys, int64_t size, float scale) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t frame = 0; frame < count; frame++)
        for (int64_t head = 0; head < keys; head++) {
            int64_t first = frames[2 * frame], width = frames[2 * frame + 1];
            if (size == 64)
                attend_back_head(grad, joined, ends, output, normaliser, back, first, width, head, queries, keys,
                                 64, scale);
            else
                attend_back_head(grad, joined, ends, output, normaliser, back, first, width, head, queries, keys,
                                 size, scale);
        }
}
