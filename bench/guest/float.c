/* Floating point: scalar and packed SSE, x87, the C library's functions, conversions. */
#include "item.h"

#include <math.h>

/* A sum of floating-point work as an integer, without the digits in which two ways to compute it may differ.
 */
static uint64_t rounded(double value) { return (uint64_t)llround(value * 10); }

/* Five bodies under gravity, double precision. */
static uint64_t nbody(unsigned rounds)
{
    double at[5][3], speed[5][3], mass[5];
    for (int i = 0; i < 5; i++) {
        mass[i] = i ? 0.01 / i : 1;
        for (int k = 0; k < 3; k++) {
            at[i][k] = i ? (i + 1) * (k == i % 3 ? 2.0 : 0.3) : 0;
            speed[i][k] = i && k == (i + 1) % 3 ? 0.5 : 0;
        }
    }
    while (rounds--) {
        for (int i = 0; i < 5; i++) {
            for (int j = i + 1; j < 5; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = at[i][k] - at[j][k];
                    square += d[k] * d[k];
                }
                double pull = 0.0001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    speed[i][k] -= d[k] * mass[j] * pull;
                    speed[j][k] += d[k] * mass[i] * pull;
                }
            }
        }
        for (int i = 0; i < 5; i++) {
            for (int k = 0; k < 3; k++) {
                at[i][k] += 0.0001 * speed[i][k];
            }
        }
    }
    return (uint64_t)(fabs(at[1][0]) * 100);
}

/* The product of two matrices of 64 by 64 doubles. */
static uint64_t matrix(unsigned rounds)
{
    static double a[64][64], b[64][64], c[64][64];
    double sum = 0;
    for (int i = 0; i < 64; i++) {
        for (int k = 0; k < 64; k++) {
            a[i][k] = (i * 3 + k) % 7;
            b[i][k] = (i + k * 5) % 11;
        }
    }
    while (rounds--) {
        for (int i = 0; i < 64; i++) {
            for (int k = 0; k < 64; k++) {
                double value = 0;
                for (int n = 0; n < 64; n++) {
                    value += a[i][n] * b[n][k];
                }
                c[i][k] = value;
            }
        }
        a[1][rounds & 63] = c[2][3] > 100;
        sum += c[rounds & 63][5];
    }
    return rounded(sum);
}

/* y += a x over vectors of floats, by fours. */
static uint64_t saxpy(unsigned rounds)
{
    typedef float vector __attribute__((vector_size(16)));
    static vector x[1024], y[1024];
    for (int i = 0; i < 1024; i++) {
        x[i] = (vector){(float)i, 1, 2, 3};
        y[i] = (vector){0};
    }
    for (unsigned n = 0; n < rounds; n++) {
        float scale = n & 1 ? 0.5f : -0.5f;
        vector a = {scale, scale, scale, scale};
        for (int i = 0; i < 1024; i++) {
            y[i] = y[i] * 0.5f + a * x[i];
        }
    }
    return rounded((double)y[5][0] + (double)y[1023][3]);
}

/* The same by eights, with fused multiplication and addition: x86-64-v3. */
__attribute__((target("avx2,fma"))) static uint64_t saxpy_avx(unsigned rounds)
{
    typedef float vector __attribute__((vector_size(32)));
    static vector x[512], y[512];
    for (int i = 0; i < 512; i++) {
        x[i] = (vector){(float)i, 1, 2, 3, 4, 5, 6, 7};
        y[i] = (vector){0};
    }
    for (unsigned n = 0; n < rounds; n++) {
        float scale = n & 1 ? 0.5f : -0.5f;
        vector a = {scale, scale, scale, scale, scale, scale, scale, scale};
        for (int i = 0; i < 512; i++) {
            y[i] = y[i] * 0.5f + a * x[i];
        }
    }
    return rounded((double)y[5][0] + (double)y[511][3]);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* x87: polynomials, division and square roots in extended precision. */
static uint64_t x87(unsigned rounds)
{
    long double sum = 0;
    for (unsigned n = 0; n < rounds; n++) {
        long double x = (long double)(n % 1000) / 1000;
        sum += (((x * 3 + 1) * x - 2) * x + 5) / (1 + x * x);
        sum += __builtin_sqrtl(x + 2) - (sum > 1000000 ? 1000000 : 0);
    }
    return rounded((double)sum);
}

/* x87's own functions: sine and cosine, arc tangent, logarithm, power of two. */
static uint64_t x87_functions(unsigned rounds)
{
    long double sum = 0;
    for (unsigned n = 0; n < rounds; n++) {
        long double x = (long double)(n % 777) / 777, sine, cosine, angle, power;
        __asm__("fsincos" : "=t"(cosine), "=u"(sine) : "0"(x));
        __asm__("fpatan" : "=t"(angle) : "0"(cosine), "u"(sine) : "st(1)");
        __asm__("f2xm1" : "=t"(power) : "0"(x));
        sum += angle + power - sine;
    }
    return rounded((double)sum);
}

/* The C library's sin, exp, log and pow. */
static uint64_t libm(unsigned rounds)
{
    double sum = 0;
    for (unsigned n = 0; n < rounds; n++) {
        double x = (n % 1000) * 0.001;
        sum += sin(x) + exp(-x) + log(x + 1) + pow(x + 0.5, 1.25);
    }
    return rounded(sum);
}

/* Between integers, floats and doubles. */
static uint64_t convert(unsigned rounds)
{
    uint32_t state = 17;
    int64_t sum = 0;
    while (rounds--) {
        for (unsigned i = 0; i < 1000; i++) {
            int32_t value = (int32_t)item_random(&state);
            double d = value * 0.25;
            float f = (float)(value >> 8);
            sum += (int32_t)d + (int32_t)(f * 0.5f) + (int64_t)((double)f + d) + (sum & 1);
        }
    }
    return (uint64_t)sum;
}

const struct item float_items[] = {
    {"float", "nbody", nbody, 2500000, NULL},
    {"float", "matrix", matrix, 2500, NULL},
    {"float", "saxpy", saxpy, 300000, NULL},
    {"float", "saxpy-avx", saxpy_avx, 600000, has_avx2},
    {"float", "x87", x87, 25000000, NULL},
    {"float", "x87-functions", x87_functions, 4000000, NULL},
    {"float", "libm", libm, 9000000, NULL},
    {"float", "convert", convert, 50000, NULL},
    {NULL, NULL, NULL, 0, NULL},
};
