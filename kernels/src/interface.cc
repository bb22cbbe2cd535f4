// The C interface: exceptions become messages.
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "dispatch.h"
#include "effnet_edge_kernels.h"
#include "network.h"
#include "part.h"
#include "threads.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr int64_t kMostPixels = INT64_C(1) << 26;

std::string& last_error() {
    thread_local std::string error;
    return error;
}

// What `action` returns, or `failure` if it throws.
template <class Action>
auto guarded(const Action& action, decltype(action()) failure) -> decltype(action()) {
    try {
        return action();
    } catch (const std::bad_alloc&) {
        last_error() = "not enough memory";
    } catch (const std::exception& error) {
        last_error() = error.what();
    }
    return failure;
}

const Kernels& kernels() {
    const Kernels* chosen = chosen_kernels();
    if (chosen == nullptr) {
        throw Unsupported(
            "EFFNET_EDGE_ISA names an instruction set that this processor or this "
            "library doesn't have");
    }
    return *chosen;
}

void check_map(const ee_part* part, int32_t height, int32_t width) {
    if (part == nullptr) throw Unsupported("there is no part");
    if (height < 1 || width < 1 || int64_t{height} * width > kMostPixels) {
        throw Unsupported("the map is empty or too large");
    }
    const ee_part::Shape out = part->output(height, width);
    if (out.height < 1 || out.width < 1) throw Unsupported("the map is smaller than the kernel");
}

template <class Make>
ee_part* make_part(const Make& make) {
    return guarded([&]() -> ee_part* { return make().release(); }, nullptr);
}

}  // namespace
}  // namespace effnet_edge

using namespace effnet_edge;

int32_t ee_abi_version(void) { return EE_ABI_VERSION; }

const char* ee_error(void) { return last_error().c_str(); }

const char* ee_isa(void) {
    return guarded([]() -> const char* { return kernels().name; }, nullptr);
}

const char* ee_usable_isa(int32_t i) {
    const auto& usable = usable_kernels();
    return i >= 0 && static_cast<size_t>(i) < usable.size() ? usable[i]->name : nullptr;
}

ee_part* ee_make_stem(const ee_stem* stem) {
    return make_part([&] { return make_stem(kernels(), *stem); });
}

ee_part* ee_make_mbconv(const ee_mbconv* block) {
    return make_part([&] { return make_mbconv(kernels(), *block); });
}

ee_part* ee_make_head(const ee_head* head) {
    return make_part([&] { return make_head(kernels(), *head); });
}

ee_part* ee_make_pixels(const float* offset, ee_quantization output) {
    return make_part([&] { return make_pixels(kernels(), offset, output); });
}

void ee_free_part(ee_part* part) { delete part; }

int32_t ee_part_output(const ee_part* part, int32_t height, int32_t width, int32_t output[3]) {
    return guarded(
        [&] {
            check_map(part, height, width);
            const ee_part::Shape shape = part->output(height, width);
            output[0] = shape.height;
            output[1] = shape.width;
            output[2] = shape.channels;
            return 0;
        },
        1);
}

size_t ee_part_scratch(const ee_part* part, int32_t height, int32_t width, int32_t threads) {
    return guarded(
        [&] {
            check_map(part, height, width);
            return part->scratch(height, width, std::max(threads, 1), /*stored_input=*/false);
        },
        size_t{0});
}

int32_t ee_run_part(const ee_part* part, const uint8_t* input, int32_t height, int32_t width,
                    void* output, void* scratch, const ee_scheduler* scheduler) {
    return guarded(
        [&] {
            check_map(part, height, width);
            part->run({input, height, width, output, scratch, scheduler, false, false});
            return 0;
        },
        1);
}

ee_network* ee_make_network(ee_part* const* parts, int32_t count, int32_t height, int32_t width,
                            int32_t threads) {
    std::vector<std::unique_ptr<ee_part>> owned;
    for (int32_t i = 0; i < count; ++i) owned.emplace_back(parts[i]);
    return guarded(
        [&]() -> ee_network* {
            for (const auto& part : owned) {
                if (part == nullptr) throw Unsupported("there is no part");
            }
            if (height < 1 || width < 1 || int64_t{height} * width > kMostPixels) {
                throw Unsupported("the image is empty or too large");
            }
            return std::make_unique<ee_network>(std::move(owned), height, width, threads).release();
        },
        nullptr);
}

void ee_free_network(ee_network* network) { delete network; }

int32_t ee_network_classes(const ee_network* network) { return network->classes(); }

int32_t ee_run_network(ee_network* network, const uint8_t* image, float* logits,
                       const ee_scheduler* scheduler) {
    return guarded(
        [&] {
            network->run(image, logits, scheduler);
            return 0;
        },
        1);
}

ee_threads* ee_start_threads(int32_t threads) {
    return guarded([&]() -> ee_threads* { return new ee_threads(threads); }, nullptr);
}

const ee_scheduler* ee_threads_scheduler(const ee_threads* threads) {
    return &threads->scheduler();
}

void ee_stop_threads(ee_threads* threads) { delete threads; }
