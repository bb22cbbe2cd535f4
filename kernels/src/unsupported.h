// Thrown where a part is made of numbers that the kernels can't compute with.
#pragma once

#include <stdexcept>

namespace effnet_edge {

class Unsupported : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace effnet_edge
