// Included before all else into every file: the library is to load on systems older than the one it
// is built on, and so asks for the oldest version of a function that does.
#pragma once

#include <cstddef>  // whatever defines what follows

#if defined(__GLIBC__) && defined(__GLIBCXX__)
#if defined(__x86_64__)
#define EE_OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define EE_OLDEST "GLIBC_2.17"
#elif defined(__arm__)
#define EE_OLDEST "GLIBC_2.4"
#endif
#endif

#ifdef EE_OLDEST
// Those of 2.29 differ in when they set errno.
__asm__(".symver exp, exp@" EE_OLDEST);
__asm__(".symver exp2, exp2@" EE_OLDEST);
__asm__(".symver log, log@" EE_OLDEST);
__asm__(".symver log2, log2@" EE_OLDEST);
__asm__(".symver pow, pow@" EE_OLDEST);
// std::condition_variable::wait; that of GCC 12 differs in being noexcept.
#define EE_WAIT "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE"
__asm__(".symver " EE_WAIT ", " EE_WAIT "@GLIBCXX_3.4.11");
#undef EE_WAIT
#undef EE_OLDEST
#endif
