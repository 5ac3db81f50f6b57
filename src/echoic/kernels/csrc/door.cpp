// The NumPy door: predictors and steppers as Python objects. Addresses and sizes are what kernels/door.py has checked.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <array>
#include <memory>
#include <optional>

#include "module.h"
#include "predict.h"

namespace nb = nanobind;

namespace echoic {
namespace {

using Address = uintptr_t;
template <class T> T* at(Address address) { return reinterpret_cast<T*>(address); }

struct HeldLinear {
  std::shared_ptr<LinearMap> map;
};
// What Python holds; a stepper holds its predictor too.
template <class real> struct HeldPredictor {
  std::shared_ptr<Predictor<real>> predictor;
  int64_t rows_of_weights;  // G*H
};
template <class real> struct HeldStepper {
  std::shared_ptr<const Predictor<real>> predictor;
  std::unique_ptr<Stepper<real>> stepper;
  bool long_;
  int64_t rows_of_weights;
};

// weight_ih, weight_hh, bias_ih, bias_hh, peephole_i, peephole_f, peephole_o; 0: none
using Weights = std::array<Address, 7>;

template <class real> Inputs<real> inputs(const Weights& w) {
  Inputs<real> in{};
  in.weight_ih = at<const real>(w[0]);
  in.weight_hh = at<const real>(w[1]);
  in.bias_ih = at<const real>(w[2]);
  in.bias_hh = at<const real>(w[3]);
  in.peephole_i = at<const real>(w[4]);
  in.peephole_f = at<const real>(w[5]);
  in.peephole_o = at<const real>(w[6]);
  return in;
}

LayerShape shape(int kind, int64_t D, int64_t H, bool reverse) { return {Kind(kind), D, H, reverse}; }

// The stepper's own numbers as an array, which keeps the stepper.
template <class real> nb::object shown(nb::handle self, real* data, size_t rows, size_t columns, int64_t stride) {
  if (!data) return nb::none();
  return nb::cast(nb::ndarray<nb::numpy, real, nb::ndim<2>>(data, {rows, columns}, self, {stride, 1}));
}

template <class real> using More = nb::ndarray<const real, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Multiplications of a step that takes more than microseconds, in which the interpreter is let go.
constexpr int64_t many = int64_t(1) << 20;

std::unique_ptr<nb::gil_scoped_release> unlocked_if(bool is_long) {
  return is_long ? std::make_unique<nb::gil_scoped_release>() : nullptr;
}

// more (B, G*H), or null.
template <class real> const real* added(const HeldStepper<real>& self, const std::optional<More<real>>& more) {
  if (!more) return nullptr;
  if (int64_t(more->shape(0)) != self.stepper->B || int64_t(more->shape(1)) != self.rows_of_weights)
    throw nb::value_error("more: wanted (B, G*H)");
  return more->data();
}

template <class real> void add(nb::module_& m, const char* predictor, const char* stepper) {
  using Predicts = HeldPredictor<real>;
  using Steps = HeldStepper<real>;
  nb::class_<Predicts>(m, predictor)
      .def("run", [](const Predicts& self, int64_t B, int64_t T, Address lengths, int threads, const std::array<Address, 6>& a) {
        nb::gil_scoped_release unlocked;
        self.predictor->run({B, T, at<const int64_t>(lengths), threads, at<const real>(a[0]), at<const real>(a[1]),
                             at<const real>(a[2]), at<real>(a[3]), at<real>(a[4]), at<real>(a[5])});
      }, "B, T, lengths, threads, (x, h0, c0, y, h, c): see Predictor::Rows in predict.h.")
      .def("know", [](const Predicts& self, int64_t N, Address x) { self.predictor->know(at<const real>(x), N); }, "N, x: see predict.h.")
      .def("stepper", [](const Predicts& self, int64_t B) {
        auto made = self.predictor->stepper(B);
        const bool is_long = B * made->H * (made->D + made->H) >= many;
        return Steps{self.predictor, std::move(made), is_long, self.rows_of_weights};
      });
  nb::class_<Steps>(m, stepper)
      .def("step", [](const Steps& self, std::optional<More<real>> more) {
        const real* beside = added(self, more);
        const auto unlocked = unlocked_if(self.long_);
        self.stepper->step(beside);
      }, nb::arg("more").noconvert().none() = nb::none(), "more (B, G*H): see Stepper in predict.h.")
      .def("step_known", [](const Steps& self, std::optional<More<real>> more) {
        const real* beside = added(self, more);
        const auto unlocked = unlocked_if(self.long_);
        self.stepper->step_known(beside);
      }, nb::arg("more").noconvert().none() = nb::none())
      .def_prop_ro("ids", [](nb::handle self) {
        const Stepper<real>& s = *nb::cast<const Steps&>(self).stepper;
        return nb::cast(nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>(s.ids, {size_t(s.B)}, self));
      })
      .def_prop_ro("x", [](nb::handle self) {
        const Stepper<real>& s = *nb::cast<const Steps&>(self).stepper;
        return shown(self, s.x, size_t(s.B), size_t(s.D), s.D);
      })
      .def_prop_ro("h", [](nb::handle self) {
        const Stepper<real>& s = *nb::cast<const Steps&>(self).stepper;
        return shown(self, s.h, size_t(s.B), size_t(s.H), s.stride);
      })
      .def_prop_ro("c", [](nb::handle self) {
        const Stepper<real>& s = *nb::cast<const Steps&>(self).stepper;
        return shown(self, s.c, size_t(s.B), size_t(s.H), s.stride);
      });
}

}  // namespace

void add_door(nb::module_& m) {
  add<float>(m, "PredictorFloat", "StepperFloat");
  add<double>(m, "PredictorDouble", "StepperDouble");
  m.def("predict_float", [](int isa, int kind, int64_t D, int64_t H, bool reverse, const Weights& w) {
    return HeldPredictor<float>{usable().at(size_t(isa))->predict_float(shape(kind, D, H, reverse), inputs<float>(w)), gate_count(Kind(kind)) * H};
  });
  m.def("predict_double", [](int isa, int kind, int64_t D, int64_t H, bool reverse, const Weights& w) {
    return HeldPredictor<double>{usable().at(size_t(isa))->predict_double(shape(kind, D, H, reverse), inputs<double>(w)), gate_count(Kind(kind)) * H};
  });
  m.def("predict_bfloat16", [](int isa, int kind, int64_t D, int64_t H, bool reverse, const Weights& w) {
    return HeldPredictor<float>{usable().at(size_t(isa))->predict_bfloat16(shape(kind, D, H, reverse), inputs<float>(w)), gate_count(Kind(kind)) * H};
  }, "Where has_bfloat16.");
  m.def("predict_int8", [](int isa, int kind, int64_t D, int64_t H, bool reverse, const Weights& w, const std::array<Address, 2>& scales) {
    Int8Weights eight{at<const int8_t>(w[0]), at<const int8_t>(w[1]), at<const float>(scales[0]), at<const float>(scales[1])};
    Weights rest = w;
    rest[0] = rest[1] = 0;
    return HeldPredictor<float>{usable().at(size_t(isa))->predict_int8(shape(kind, D, H, reverse), inputs<float>(rest), eight), gate_count(Kind(kind)) * H};
  }, "As predict_float with weights of int8; scales: those of the rows of W and of U.");
  nb::class_<HeldLinear>(m, "Linear")
      .def("run", [](const HeldLinear& self, int64_t rows, Address x, Address y) {
        nb::gil_scoped_release unlocked;
        self.map->run(rows, at<const float>(x), at<float>(y));
      }, "rows, x, y: see LinearMap in predict.h.")
      .def("likeliest", [](const HeldLinear& self, int64_t rows, int64_t k, const std::array<Address, 4>& a) {
        nb::gil_scoped_release unlocked;
        self.map->likeliest(rows, at<const float>(a[0]), k, at<float>(a[1]), at<int64_t>(a[2]), at<float>(a[3]));
      }, "rows, k, (x, values, places, norms).");
  m.def("linear", [](int isa, bool bfloat16, int64_t inputs, int64_t outputs, Address weight, Address bias) {
    const Isa& code = *usable().at(size_t(isa));
    return HeldLinear{(bfloat16 ? code.linear_bfloat16 : code.linear)(inputs, outputs, at<const float>(weight), at<const float>(bias))};
  }, "bfloat16: where has_bfloat16.");
  m.def("likeliest", [](int isa, int64_t rows, int64_t size, int64_t k, const std::array<Address, 4>& a) {
    nb::gil_scoped_release unlocked;
    usable().at(size_t(isa))->likeliest(rows, size, k, at<const float>(a[0]), at<float>(a[1]), at<int64_t>(a[2]), at<float>(a[3]));
  }, "rows, size, k, (logits, values, places, norms): see likeliest.h.");
  m.def("int8_name", [](int isa) { return usable().at(size_t(isa))->int8_name(); },
        "Which instructions multiply eight bits: vnni, avx2 or portable.");
}

}  // namespace echoic
