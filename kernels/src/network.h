// A chain of parts with the memory that a run needs.
#pragma once

#include <memory>
#include <vector>

#include "packed.h"
#include "part.h"

struct ee_network {
  public:
    // Throws effnet_edge::Unsupported where the parts don't fit each other.
    ee_network(std::vector<std::unique_ptr<ee_part>> parts, int height, int width, int threads);

    int classes() const { return classes_; }
    void run(const uint8_t* image, float* logits, const ee_scheduler* scheduler);

  private:
    struct Step {
        std::unique_ptr<ee_part> part;
        int height, width;  // of its input
    };
    std::vector<Step> steps_;
    int classes_ = 0;
    int threads_;
    effnet_edge::Memory maps_[2];  // outputs of parts, by turns
    effnet_edge::Memory scratch_;
};
