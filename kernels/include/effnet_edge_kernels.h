/* Fused kernels for int8 EfficientNets: one call per block, or one for a whole network.
 *
 * Parts are made from the integers of a quantized network, as the .onnx file holds them (its
 * format is described in docs/model-files.md). Making a part packs its weights for this processor
 * and copies all that it needs; the arguments may go afterwards. Parts are immutable: several
 * threads may run one part at a time, each with scratch memory of its own.
 *
 * Maps are uint8, NHWC with N = 1, without gaps. Activations are affine: real = scale * (integer -
 * zero_point). Weights are symmetric int8 with a scale per output channel, biases int32 in units of
 * input scale * weight scale.
 *
 * Functions that can fail return NULL, or a status other than 0, and ee_error() then says why. */
#ifndef EFFNET_EDGE_KERNELS_H
#define EFFNET_EDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EE_API __attribute__((visibility("default")))
#else
#define EE_API
#endif

/* Raised whenever something here changes its meaning. */
#define EE_ABI_VERSION 1
EE_API int32_t ee_abi_version(void);

/* What went wrong in this thread's last call that failed. Valid until its next one. */
EE_API const char* ee_error(void);

/* The instruction set in use ("avx512-vbmi", "neon-dotprod", ...): the best that the processor has,
 * or what the environment variable EFFNET_EDGE_ISA names. NULL if it can't have that one. */
EE_API const char* ee_isa(void);

/* The i-th of the instruction sets that this processor can use, the best first; NULL behind the
 * last. */
EE_API const char* ee_usable_isa(int32_t i);

typedef struct {
    float scale;
    int32_t zero_point; /* 0 to 255 */
} ee_quantization;

/* x * sigmoid(x) of a convolution's quantized output u. With `factor`, the output has a factor per
 * channel on x that is undone for the sigmoid: argument = factor(c) * u, quantized, and the result
 * is u * sigmoid(argument). The sigmoid is quantized in steps of 1/256. */
typedef struct {
    ee_quantization output;
    const uint8_t* factor; /* [channels], or NULL */
    ee_quantization factor_quantization;
    ee_quantization argument;
} ee_silu;

typedef struct {
    int32_t in_channels; /* of a depthwise convolution: 1 */
    int32_t out_channels;
    int32_t kernel; /* height and width */
    int32_t stride;
    int32_t pad_top, pad_left, pad_bottom, pad_right;
    const int8_t* weight;      /* [out_channels][in_channels][kernel][kernel] */
    const float* weight_scale; /* [out_channels] */
    const int32_t* bias;       /* [out_channels] */
    ee_quantization output;    /* a ReLU6 is the saturation of this */
    const ee_silu* silu;       /* NULL: none, or ReLU6 */
} ee_conv;

typedef struct {
    ee_quantization pool;   /* mean over the map */
    ee_conv reduce;         /* 1x1 */
    ee_conv expand;         /* 1x1; its output is the argument of the sigmoid */
    ee_quantization output; /* the map times its gates */
} ee_squeeze_excite;

typedef struct {
    ee_quantization input;
    const ee_conv* expand; /* 1x1, or NULL */
    ee_conv depthwise;
    const ee_squeeze_excite* squeeze_excite; /* or NULL */
    ee_conv project;                         /* 1x1 */
    const ee_quantization* residual;         /* of the sum with the input, or NULL */
} ee_mbconv;

typedef struct {
    ee_quantization input;
    ee_conv conv; /* of three channels */
} ee_stem;

/* 1x1 convolution, activation, mean over the map, classifier to float logits. */
typedef struct {
    ee_quantization input;
    ee_conv conv;
    ee_quantization features;
    int32_t classes;
    const int8_t* weight;      /* [classes][features] */
    const float* weight_scale; /* [classes] */
    const int32_t* bias;       /* [classes] */
} ee_head;

typedef struct ee_part ee_part;

EE_API ee_part* ee_make_stem(const ee_stem* stem);
EE_API ee_part* ee_make_mbconv(const ee_mbconv* block);
EE_API ee_part* ee_make_head(const ee_head* head);

/* uint8 [height][width][3] pixels less `offset` [3], quantized by `output`, to the same shape. */
EE_API ee_part* ee_make_pixels(const float* offset, ee_quantization output);

EE_API void ee_free_part(ee_part* part);

/* Height, width and channels of what a part makes of a height x width map; a head gives
 * 1 x 1 x classes float32. Not 0 if the map is too large or empty. */
EE_API int32_t ee_part_output(const ee_part* part, int32_t height, int32_t width,
                              int32_t output[3]);

/* How a caller lends its threads. `parallel_for` calls task(argument, i) for i from 0 to count - 1,
 * on any threads, and returns when all have returned. NULL: everything runs in the calling thread.
 * `threads` is how many may run at a time. */
typedef struct {
    void (*parallel_for)(void* context, void (*task)(void* argument, size_t index), size_t count,
                         void* argument);
    void* context;
    int32_t threads;
} ee_scheduler;

/* Bytes of scratch memory that ee_run_part needs for this map and number of threads. */
EE_API size_t ee_part_scratch(const ee_part* part, int32_t height, int32_t width, int32_t threads);

/* Run a part on `input`, a height x width map, of which not a byte too much is read. `scratch` is
 * 64-byte aligned and needn't be initialised; `scheduler` may be NULL. */
EE_API int32_t ee_run_part(const ee_part* part, const uint8_t* input, int32_t height, int32_t width,
                           void* output, void* scratch, const ee_scheduler* scheduler);

/* A chain of parts from a height x width image to logits: [pixels,] stem, blocks, head. The network
 * takes the parts over, and frees them also if it can't be made. It owns all memory that a run
 * needs, so one run at a time. */
typedef struct ee_network ee_network;
EE_API ee_network* ee_make_network(ee_part* const* parts, int32_t count, int32_t height,
                                   int32_t width, int32_t threads);
EE_API void ee_free_network(ee_network* network);
EE_API int32_t ee_network_classes(const ee_network* network);
EE_API int32_t ee_run_network(ee_network* network, const uint8_t* image, float* logits,
                              const ee_scheduler* scheduler);

/* Threads of our own, for callers that have none to lend: `threads` - 1 are started, and the caller
 * of parallel_for is the last. One parallel_for at a time. */
typedef struct ee_threads ee_threads;
EE_API ee_threads* ee_start_threads(int32_t threads);
EE_API const ee_scheduler* ee_threads_scheduler(const ee_threads* threads);
EE_API void ee_stop_threads(ee_threads* threads);

#ifdef __cplusplus
}
#endif
#endif
