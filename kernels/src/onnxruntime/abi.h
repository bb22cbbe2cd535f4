// The part of ONNX Runtime's C interface that a custom operator needs, of version 17 (ONNX
// Runtime 1.17), declared here because no package of ONNX Runtime ships its header.
//
// The interface is a table of function pointers that only grows: what stands in a slot stays there
// (onnxruntime_c_api.h, "All functions ... are never removed"). So a few declarations fit all
// later versions, and the library links to nothing. Names are ONNX Runtime's own.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtOpAttr;
struct OrtCustomOp;

constexpr uint32_t kOrtApiVersion = 17;

enum OrtErrorCode : int { ORT_FAIL = 1 };
enum OrtOpAttrType : int { ORT_OP_ATTR_INTS = 2 };
enum OrtMemType : int { OrtMemTypeDefault = 0 };
enum OrtCustomOpInputOutputCharacteristic : int {
    INPUT_OUTPUT_REQUIRED = 0,
    INPUT_OUTPUT_VARIADIC = 2,
};

enum ONNXTensorElementDataType : int {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
};

// Functions that give an OrtStatus give nullptr when all went well.
struct OrtApi {
    OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
    void* unused_1[1];
    const char* (*GetErrorMessage)(const OrtStatus* status);
    void* unused_3[23];
    OrtStatus* (*CreateCustomOpDomain)(const char* domain, OrtCustomOpDomain** out);
    OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain, const OrtCustomOp* op);
    OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options, OrtCustomOpDomain* domain);
    void* unused_29[22];
    OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** out);
    void* unused_52[5];
    OrtStatus* (*CreateTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo** out);
    OrtStatus* (*SetTensorElementType)(OrtTensorTypeAndShapeInfo* info,
                                       ONNXTensorElementDataType type);
    OrtStatus* (*SetDimensions)(OrtTensorTypeAndShapeInfo* info, const int64_t* values,
                                size_t count);
    OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info,
                                       ONNXTensorElementDataType* out);
    OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info, size_t* out);
    OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo* info, int64_t* values,
                                size_t count);
    OrtStatus* (*GetSymbolicDimensions)(const OrtTensorTypeAndShapeInfo* info, const char* names[],
                                        size_t count);
    void* unused_64[1];
    OrtStatus* (*GetTensorTypeAndShape)(const OrtValue* value, OrtTensorTypeAndShapeInfo** out);
    void* unused_66[24];
    OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext* context, size_t index,
                                         const OrtValue** out);
    OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context, size_t index,
                                          const int64_t* dimensions, size_t count, OrtValue** out);
    void* unused_92[1];
    void (*ReleaseStatus)(OrtStatus* status);
    void* unused_94[5];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);
    void* unused_100[63];
    OrtStatus* (*KernelInfoGetAttributeArray_int64)(const OrtKernelInfo* info, const char* name,
                                                    int64_t* out, size_t* size);
    void* unused_164[66];
    OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo* info, size_t* out);
    void* unused_231[6];
    OrtStatus* (*HasSessionConfigEntry)(const OrtSessionOptions* options, const char* key,
                                        int* out);
    OrtStatus* (*GetSessionConfigEntry)(const OrtSessionOptions* options, const char* key,
                                        char* out, size_t* size);
    void* unused_239[10];
    OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo* info, size_t index,
                                                    int* is_constant, const OrtValue** out);
    void* unused_250[18];
    // The information belongs to the context.
    OrtStatus* (*ShapeInferContext_GetInputTypeShape)(const OrtShapeInferContext* context,
                                                      size_t index,
                                                      OrtTensorTypeAndShapeInfo** out);
    OrtStatus* (*ShapeInferContext_GetAttribute)(const OrtShapeInferContext* context,
                                                 const char* name, const OrtOpAttr** out);
    OrtStatus* (*ShapeInferContext_SetOutputTypeShape)(const OrtShapeInferContext* context,
                                                       size_t index,
                                                       const OrtTensorTypeAndShapeInfo* info);
    OrtStatus* (*SetSymbolicDimensions)(OrtTensorTypeAndShapeInfo* info, const char* names[],
                                        size_t count);
    OrtStatus* (*ReadOpAttr)(const OrtOpAttr* attribute, OrtOpAttrType type, void* data,
                             size_t bytes, size_t* out);
    void* unused_273[1];
    // `batches` 0: every index is a task of its own.
    OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext* context,
                                            void (*task)(void* argument, size_t index),
                                            size_t count, size_t batches, void* argument);
};

#define EE_SLOT(function, number) \
    static_assert(offsetof(OrtApi, function) == (number) * sizeof(void*), #function)
EE_SLOT(CreateStatus, 0);
EE_SLOT(GetErrorMessage, 2);
EE_SLOT(CreateCustomOpDomain, 26);
EE_SLOT(CustomOpDomain_Add, 27);
EE_SLOT(AddCustomOpDomain, 28);
EE_SLOT(GetTensorMutableData, 51);
EE_SLOT(CreateTensorTypeAndShapeInfo, 57);
EE_SLOT(SetTensorElementType, 58);
EE_SLOT(SetDimensions, 59);
EE_SLOT(GetTensorElementType, 60);
EE_SLOT(GetDimensionsCount, 61);
EE_SLOT(GetDimensions, 62);
EE_SLOT(GetSymbolicDimensions, 63);
EE_SLOT(GetTensorTypeAndShape, 65);
EE_SLOT(KernelContext_GetInput, 90);
EE_SLOT(KernelContext_GetOutput, 91);
EE_SLOT(ReleaseStatus, 93);
EE_SLOT(ReleaseTensorTypeAndShapeInfo, 99);
EE_SLOT(KernelInfoGetAttributeArray_int64, 163);
EE_SLOT(KernelInfo_GetInputCount, 230);
EE_SLOT(HasSessionConfigEntry, 237);
EE_SLOT(GetSessionConfigEntry, 238);
EE_SLOT(KernelInfoGetConstantInput_tensor, 249);
EE_SLOT(ShapeInferContext_GetInputTypeShape, 268);
EE_SLOT(ShapeInferContext_GetAttribute, 269);
EE_SLOT(ShapeInferContext_SetOutputTypeShape, 270);
EE_SLOT(SetSymbolicDimensions, 271);
EE_SLOT(ReadOpAttr, 272);
EE_SLOT(KernelContext_ParallelFor, 274);
#undef EE_SLOT

struct OrtApiBase {
    const OrtApi* (*GetApi)(uint32_t version);  // nullptr where that version isn't offered
    const char* (*GetVersionString)();
};

// An operator and its kernels.
struct OrtCustomOp {
    uint32_t version;
    void* (*CreateKernel)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info);
    const char* (*GetName)(const OrtCustomOp* op);
    const char* (*GetExecutionProviderType)(const OrtCustomOp* op);
    ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp* op, size_t index);
    size_t (*GetInputTypeCount)(const OrtCustomOp* op);
    ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp* op, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp* op);
    void (*KernelCompute)(void* kernel, OrtKernelContext* context);
    void (*KernelDestroy)(void* kernel);
    OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp* op,
                                                                   size_t index);
    OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp* op,
                                                                    size_t index);
    OrtMemType (*GetInputMemoryType)(const OrtCustomOp* op, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp* op);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp* op);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp* op);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp* op);
    OrtStatus* (*CreateKernelV2)(const OrtCustomOp* op, const OrtApi* api,
                                 const OrtKernelInfo* info, void** kernel);
    OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext* context);
    OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp* op, OrtShapeInferContext* context);
    int (*GetStartVersion)(const OrtCustomOp* op);
    int (*GetEndVersion)(const OrtCustomOp* op);
};

}  // extern "C"
