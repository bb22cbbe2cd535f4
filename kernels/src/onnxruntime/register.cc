// What `SessionOptions.register_custom_ops_library` calls.

#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "abi.h"
#include "effnet_edge_kernels.h"
#include "operators.h"
#include "ort.h"

namespace effnet_edge {
namespace {

constexpr char kDomain[] = "effnet_edge";
// The session's threads, which an operator can't ask for. Without the entry a kernel uses one.
constexpr char kThreadsEntry[] = "effnet_edge.threads";
constexpr int kMostThreads = 1024;

int threads_of(const OrtApi& api, const OrtSessionOptions* options) {
    int is_set = 0;
    check(api, api.HasSessionConfigEntry(options, kThreadsEntry, &is_set));
    if (!is_set) return 1;
    char text[16];
    size_t size = sizeof(text);
    check(api, api.GetSessionConfigEntry(options, kThreadsEntry, text, &size));
    char* end = nullptr;
    const long threads = std::strtol(text, &end, 10);
    if (end == text || *end != '\0' || threads < 1 || threads > kMostThreads) {
        throw std::runtime_error("effnet_edge.threads must be a number from 1 to 1024");
    }
    return static_cast<int>(threads);
}

struct Domain {
    OrtCustomOpDomain* domain = nullptr;
    std::deque<Operator> operators;  // which don't move
};

// One for each number of threads that was ever asked for. Sessions refer to them, and nothing tells
// when the last of those ends, so they stay.
OrtCustomOpDomain* domain_with(const OrtApi& api, int threads) {
    static std::mutex mutex;
    static auto& domains = *new std::map<std::pair<const OrtApi*, int>, Domain>;
    const std::lock_guard<std::mutex> lock(mutex);
    Domain& found = domains[{&api, threads}];
    if (found.domain == nullptr) {
        found.operators.clear();
        OrtCustomOpDomain* domain = nullptr;
        check(api, api.CreateCustomOpDomain(kDomain, &domain));
        for (const Signature& signature : all_signatures()) {
            found.operators.emplace_back(api, signature, threads);
            check(api, api.CustomOpDomain_Add(domain, &found.operators.back()));
        }
        found.domain = domain;
    }
    return found.domain;
}

}  // namespace
}  // namespace effnet_edge

extern "C" EE_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    using namespace effnet_edge;
    const OrtApi* api = base->GetApi(kOrtApiVersion);
    // Before 1.17 operators can't state shapes. Without ours the model's own functions run.
    if (api == nullptr) return nullptr;
    return status_of(*api, [&] {
        if (ee_isa() == nullptr) throw std::runtime_error(ee_error());
        check(*api, api->AddCustomOpDomain(options, domain_with(*api, threads_of(*api, options))));
    });
}
