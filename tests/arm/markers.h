// Marks the stretch of a program that tests/arm/count.py counts.
//
// The marker is a system call that asks for the priority of a nonsense kind of process, which every
// Linux refuses at once; the counting plugin (count_blocks.cc) recognises its arguments. Outside the
// emulator it costs a microsecond and changes nothing. A program may mark several stretches: counts
// are added up and reported per stretch.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

static inline void effnet_edge_count_begin(void) { syscall(SYS_getpriority, 0xEFF0, 1); }
static inline void effnet_edge_count_end(void) { syscall(SYS_getpriority, 0xEFF0, 2); }
