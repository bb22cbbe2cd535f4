// A plugin of QEMU's user-mode emulators (7.2 or later) that counts how often each basic block is
// executed by the thread that asked for it, between the two system calls of markers.h.
//
//   qemu-aarch64 -plugin libcount_blocks.so,out=FILE PROGRAM ...
//
// At exit FILE holds these lines, a block's if it was executed, a mapping's if a block of it was:
//
//   stretches COUNT
//   block ADDRESS EXECUTIONS HEX[,HEX...]     (instructions as bytes, in memory order)
//   map BEGIN END OFFSET PATH                 (of a file, at guest addresses)
//
// What the instructions are and what they cost is the business of blocks.py.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

// Debian ships no qemu-plugin.h: these are the functions of its API version 1 that are used here.
extern "C" {
struct qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
using qemu_plugin_id_t = uint64_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const qemu_info_t* info, int argc,
                                                               char** argv);

size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb* tb);
uint64_t qemu_plugin_tb_vaddr(const qemu_plugin_tb* tb);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb* tb, size_t index);
const void* qemu_plugin_insn_data(const qemu_plugin_insn* insn);
size_t qemu_plugin_insn_size(const qemu_plugin_insn* insn);
void* qemu_plugin_insn_haddr(const qemu_plugin_insn* insn);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*translated)(qemu_plugin_id_t, qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_cb(qemu_plugin_tb* tb, void (*executed)(unsigned, void*),
                                          qemu_plugin_cb_flags flags, void* data);
void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id,
    void (*called)(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t,
                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*exiting)(qemu_plugin_id_t, void*),
                                    void* data);
}

namespace {

constexpr uint64_t kMarker = 0xEFF0;
constexpr uint64_t kBegin = 1;
constexpr uint64_t kEnd = 2;
constexpr int kNobody = -1;

struct Block {
    uint64_t executions = 0;
};

std::mutex mutex;
// By address and instructions: QEMU may translate a block several times.
std::map<std::pair<uint64_t, std::string>, std::unique_ptr<Block>> blocks;
std::atomic<int> counted_vcpu{kNobody};
std::atomic<uint64_t> stretches{0};
std::atomic<uint64_t> guest_base{0};
std::string out_path;

std::string hex(const qemu_plugin_insn* insn) {
    const auto* bytes = static_cast<const unsigned char*>(qemu_plugin_insn_data(insn));
    std::string text;
    for (size_t i = 0; i < qemu_plugin_insn_size(insn); ++i) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
        text += digits;
    }
    return text;
}

void executed(unsigned vcpu, void* block) {
    if (static_cast<int>(vcpu) == counted_vcpu.load(std::memory_order_relaxed))
        ++static_cast<Block*>(block)->executions;
}

void translated(qemu_plugin_id_t, qemu_plugin_tb* tb) {
    const size_t size = qemu_plugin_tb_n_insns(tb);
    if (size == 0) return;
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    const void* host_address = qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0));
    guest_base = reinterpret_cast<uint64_t>(host_address) - address;
    std::string text;
    for (size_t i = 0; i < size; ++i) {
        if (i != 0) text += ',';
        text += hex(qemu_plugin_tb_get_insn(tb, i));
    }
    const std::lock_guard<std::mutex> lock(mutex);
    auto& block = blocks[{address, std::move(text)}];
    if (block == nullptr) block = std::make_unique<Block>();
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, block.get());
}

void called(qemu_plugin_id_t, unsigned vcpu, int64_t, uint64_t kind, uint64_t what, uint64_t,
            uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
    if (kind != kMarker) return;
    if (what == kBegin) {
        counted_vcpu = static_cast<int>(vcpu);
    } else if (what == kEnd && static_cast<int>(vcpu) == counted_vcpu) {
        counted_vcpu = kNobody;
        ++stretches;
    }
}

// Whether a block that was executed lies between two addresses.
bool executed_between(uint64_t begin, uint64_t end) {
    for (auto found = blocks.lower_bound({begin, {}}); found != blocks.end(); ++found) {
        if (found->first.first >= end) return false;
        if (found->second->executions != 0) return true;
    }
    return false;
}

void write_maps(std::FILE* out) {
    std::FILE* maps = std::fopen("/proc/self/maps", "r");
    if (maps == nullptr) return;
    char line[4608];
    while (std::fgets(line, sizeof line, maps) != nullptr) {
        unsigned long begin, end, offset;
        char path[4096];
        if (std::sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095[^\n]", &begin, &end, &offset, path) ==
                4 &&
            path[0] == '/' && executed_between(begin - guest_base, end - guest_base))
            std::fprintf(out, "map %lx %lx %lx %s\n", begin - guest_base.load(),
                         end - guest_base.load(), offset, path);
    }
    std::fclose(maps);
}

void exiting(qemu_plugin_id_t, void*) {
    counted_vcpu = kNobody;
    std::FILE* out = std::fopen(out_path.c_str(), "w");
    if (out == nullptr) {
        std::fprintf(stderr, "count_blocks: can't write %s\n", out_path.c_str());
        return;
    }
    const std::lock_guard<std::mutex> lock(mutex);
    std::fprintf(out, "stretches %lu\n", static_cast<unsigned long>(stretches));
    for (const auto& [key, block] : blocks)
        if (block->executions != 0)
            std::fprintf(out, "block %lx %lu %s\n", static_cast<unsigned long>(key.first),
                         static_cast<unsigned long>(block->executions), key.second.c_str());
    write_maps(out);
    std::fclose(out);
}

}  // namespace

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t*, int argc, char** argv) {
    for (int i = 0; i < argc; ++i)
        if (std::strncmp(argv[i], "out=", 4) == 0) out_path = argv[i] + 4;
    if (out_path.empty()) {
        std::fprintf(stderr, "count_blocks: out=FILE is missing\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, exiting, nullptr);
    return 0;
}
