// The Python door: plain numbers and addresses. Who calls (kernels/bridge.py) has checked them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#ifdef ECHOIC_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "memory.h"
#include "module.h"
#include "plan.h"
#include "pool.h"
#include "recurrence.h"

namespace nb = nanobind;

namespace echoic {

namespace portable { extern const Isa isa; }
#ifdef ECHOIC_HAS_AVX2
namespace avx2 { extern const Isa isa; }
#endif
#ifdef ECHOIC_HAS_AVX512
namespace avx512 { extern const Isa isa; }
#endif
#ifdef ECHOIC_HAS_AVX512BF16
namespace avx512bf16 { extern const Isa isa; }
#endif
#ifdef ECHOIC_HAS_AMX
namespace amx { extern const Isa isa; }

// Whether this processor multiplies bfloat16 in tiles, and the system lets this process use them: it must be asked, once.
bool amx_granted() {
#if defined(__linux__)
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_bf16) && (d & amx_tile) &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

const std::vector<const Isa*>& usable() {
  static const std::vector<const Isa*> found = [] {
    std::vector<const Isa*> isas;
#ifdef ECHOIC_HAS_AVX512
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#ifdef ECHOIC_HAS_AMX
    if (avx512 && __builtin_cpu_supports("avx512bf16") && amx_granted()) isas.push_back(&amx::isa);
#endif
#ifdef ECHOIC_HAS_AVX512BF16
    if (avx512 && __builtin_cpu_supports("avx512bf16")) isas.push_back(&avx512bf16::isa);
#endif
    if (avx512) isas.push_back(&avx512::isa);
#endif
#ifdef ECHOIC_HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(&avx2::isa);
#endif
    isas.push_back(&portable::isa);
    return isas;
  }();
  return found;
}

namespace {

using Address = uintptr_t;
struct Size {
  int kind;
  int64_t B, T, D, H;
  Address lengths;
  bool reverse;
  int threads;
  Shape shape() const { return {Kind(kind), B, T, D, H, reinterpret_cast<const int64_t*>(lengths), reverse, threads}; }
};

template <class real> Inputs<real> inputs(const std::array<Address, 14>& a) {
  auto p = [&](int i) { return reinterpret_cast<const real*>(a[size_t(i)]); };
  return {p(0), p(1), p(2), p(3), p(4), p(5), p(6), p(7), p(8), p(9), p(10), p(11), p(12), p(13)};
}

template <class real> void forward(const Calls<real>& calls, const Shape& shape, const std::array<Address, 14>& in,
                                   const std::array<Address, 4>& out) {
  auto p = [&](int i) { return reinterpret_cast<real*>(out[size_t(i)]); };
  calls.forward(shape, inputs<real>(in), {p(0), p(1), p(2), p(3)});
}

template <class real> void backward(const Calls<real>& calls, const Shape& shape, const std::array<Address, 14>& in,
                                    Address tape, const std::array<Address, 3>& given, int64_t y_step,
                                    const std::array<Address, 10>& out) {
  auto g = [&](int i) { return reinterpret_cast<const real*>(given[size_t(i)]); };
  auto p = [&](int i) { return reinterpret_cast<real*>(out[size_t(i)]); };
  calls.backward(shape, inputs<real>(in), reinterpret_cast<const real*>(tape), {g(0), y_step, g(1), g(2)},
                 {p(0), p(1), p(2), p(3), p(4), p(5), p(6), p(7), p(8), p(9)});
}

// What the numbers are: 0 float, 1 double, 2 float multiplied as bfloat16.
template <class F> void with_calls(int isa, int numbers, F&& f) {
  const Isa& code = *usable().at(size_t(isa));
  if (numbers == 1) return f(code.twice);
  const Calls<float>& calls = numbers == 2 ? code.bfloat16 : code.single;
  if (!calls.forward) throw std::invalid_argument("this instruction set has no bfloat16");
  f(calls);
}

// An array on a block of memory.h, which gets it back when the array dies.
template <class real> nb::object lasting(size_t size) {
  Buffer<real> block{int64_t(size)};
  real* data = block.release();
  nb::capsule owner(data, [](void* p) noexcept { give_memory(p); });
  return nb::cast(nb::ndarray<nb::numpy, real, nb::ndim<1>>(data, {size}, owner));
}

}  // namespace
}  // namespace echoic

NB_MODULE(_native, m) {
  using namespace echoic;
  nb::class_<Size>(m, "Shape")
      .def("__init__", [](Size* self, int kind, int64_t B, int64_t T, int64_t D, int64_t H, Address lengths, bool reverse,
                          int threads) { new (self) Size{kind, B, T, D, H, lengths, reverse, threads}; });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Isa* isa : usable()) names.push_back(isa->name);
    return names;
  }, "Names of the instruction sets this processor can run, the fastest first.");
  m.def("lend_threads", [](Address parallel, Address team_size) {
    lend_threads(reinterpret_cast<void (*)(void (*)(void*), void*, unsigned, unsigned)>(parallel),
                 reinterpret_cast<int (*)()>(team_size));
  });
  m.def("tape_size", [](const Size& size) { return tape_size(size.shape()); });
  m.def("lasting", [](size_t size, bool is_double) { return is_double ? lasting<double>(size) : lasting<float>(size); },
        "A NumPy vector of undefined content whose memory is used again after it.");
  m.def("has_bfloat16", [](int isa) { return usable().at(size_t(isa))->bfloat16.forward != nullptr; });
  m.def("forward", [](int isa, int numbers, const Size& size, const std::array<Address, 14>& in,
                      const std::array<Address, 4>& out) {
    nb::gil_scoped_release unlocked;
    with_calls(isa, numbers, [&](auto& calls) { forward(calls, size.shape(), in, out); });
  });
  m.def("backward", [](int isa, int numbers, const Size& size, const std::array<Address, 14>& in, Address tape,
                       const std::array<Address, 3>& given, int64_t y_step, const std::array<Address, 10>& out) {
    nb::gil_scoped_release unlocked;
    with_calls(isa, numbers, [&](auto& calls) { backward(calls, size.shape(), in, tape, given, y_step, out); });
  });
  add_door(m);
}
