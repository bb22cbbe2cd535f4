// What the headers of a new libstdc++ call, and an old library hasn't: see oldest_symbols.h.
#include <new>

#ifdef __GLIBCXX__
namespace std {

// Called by std::vector and the like, since GCC 11.
__attribute__((visibility("hidden"), noreturn)) void __throw_bad_array_new_length() {
    throw bad_array_new_length();
}

}  // namespace std
#endif
