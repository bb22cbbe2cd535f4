#include "network.h"

#include <algorithm>

#include "scheduling.h"
#include "unsupported.h"

using effnet_edge::Unsupported;

ee_network::ee_network(std::vector<std::unique_ptr<ee_part>> parts, int height, int width,
                       int threads)
    : threads_(std::max(threads, 1)) {
    size_t map_bytes[2] = {0, 0}, scratch_bytes = 0;
    int channels = parts.empty() ? 0 : parts.front()->in_channels();
    for (size_t i = 0; i < parts.size(); ++i) {
        ee_part& part = *parts[i];
        const bool last = i + 1 == parts.size();
        const ee_part::Shape out = part.output(height, width);
        if (part.in_channels() != channels || out.height < 1 || out.width < 1 ||
            (part.value_bytes() == 4) != last) {
            throw Unsupported("the network's parts don't fit each other");
        }
        scratch_bytes = std::max(scratch_bytes, part.scratch(height, width, threads_, i > 0));
        const size_t bytes = static_cast<size_t>(out.height) * out.width * out.channels;
        if (!last) map_bytes[i % 2] = std::max(map_bytes[i % 2], bytes);
        steps_.push_back({std::move(parts[i]), height, width});
        height = out.height;
        width = out.width;
        channels = out.channels;
    }
    if (steps_.empty()) throw Unsupported("a network has at least a head");
    classes_ = channels;
    for (int i = 0; i < 2; ++i) maps_[i] = effnet_edge::aligned_memory(map_bytes[i]);
    scratch_ = effnet_edge::aligned_memory(scratch_bytes);
}

void ee_network::run(const uint8_t* image, float* logits, const ee_scheduler* scheduler) {
    if (effnet_edge::thread_count(scheduler) > threads_) {
        throw Unsupported("the network was made for fewer threads");
    }
    const uint8_t* input = image;
    for (size_t i = 0; i < steps_.size(); ++i) {
        const bool last = i + 1 == steps_.size();
        void* output = last ? static_cast<void*>(logits) : maps_[i % 2].get();
        steps_[i].part->run({input, steps_[i].height, steps_[i].width, output, scratch_.get(),
                             scheduler, /*stored_input=*/i > 0, /*stored_output=*/!last});
        input = static_cast<const uint8_t*>(output);
    }
}
