// What the parts of the Python module share.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "recurrence.h"

namespace echoic {

// What this processor can run, the fastest first.
const std::vector<const Isa*>& usable();

void add_door(nanobind::module_& m);  // door.cpp

}  // namespace echoic
