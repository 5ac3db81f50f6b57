// Answers texts with the file that `echoic export RUN model.onnx` wrote; without Python, and with ONNX Runtime alone.
//
//     c++ -std=c++17 -O2 -I ORT/include classify.cpp -L ORT/lib -lonnxruntime -o classify
//     ./classify model.onnx < ids.txt
//
// A line of the input is a text as token ids, parted by blanks; in Python, `echoic.load(RUN).task.text.encode(texts)`
// gives them. A line of the output is the place of the likeliest label (labels.json of the bundle lists them), then
// every label's probability. All lines are one batch: rows of different lengths, padded at the end.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t empty = 2;  // the token of a text without tokens

std::vector<std::vector<std::int64_t>> read(std::istream& in) {
    std::vector<std::vector<std::int64_t>> texts;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::vector<std::int64_t> ids;
        for (std::int64_t id; words >> id;) ids.push_back(id);
        if (!words.eof()) throw std::runtime_error("line " + std::to_string(texts.size() + 1) + ": not all whole numbers");
        if (ids.empty()) ids.push_back(empty);
        texts.push_back(ids);
    }
    return texts;
}

// texts -> (texts, labels) probabilities, row by row
std::vector<float> answer(Ort::Session& session, const std::vector<std::vector<std::int64_t>>& texts) {
    std::vector<std::int64_t> lengths;
    for (const auto& text : texts) lengths.push_back(static_cast<std::int64_t>(text.size()));
    const auto rows = static_cast<std::int64_t>(texts.size());
    const auto steps = *std::max_element(lengths.begin(), lengths.end());
    std::vector<std::int64_t> ids(static_cast<std::size_t>(rows * steps), 0);
    for (std::int64_t row = 0; row < rows; ++row)
        std::copy(texts[row].begin(), texts[row].end(), ids.begin() + row * steps);

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::int64_t batch_and_time[] = {rows, steps};
    const Ort::Value given[] = {
        Ort::Value::CreateTensor<std::int64_t>(memory, ids.data(), ids.size(), batch_and_time, 2),
        Ort::Value::CreateTensor<std::int64_t>(memory, lengths.data(), lengths.size(), batch_and_time, 1),
    };
    const char* const names[] = {"ids", "lengths"};
    const char* const wanted[] = {"probabilities"};
    const auto found = session.Run(Ort::RunOptions{nullptr}, names, given, 2, wanted, 1);
    const float* first = found[0].GetTensorData<float>();
    return {first, first + found[0].GetTensorTypeAndShapeInfo().GetElementCount()};
}

}  // namespace

int main(int count, char** arguments) try {
    if (count != 2) {
        std::fprintf(stderr, "usage: %s model.onnx < ids.txt\n", arguments[0]);
        return 2;
    }
    const Ort::Env environment;
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(environment, arguments[1], options);
    const auto texts = read(std::cin);
    if (texts.empty()) return 0;
    const auto probabilities = answer(session, texts);
    const auto labels = probabilities.size() / texts.size();
    for (auto row = probabilities.begin(); row != probabilities.end(); row += labels) {
        std::printf("%td", std::max_element(row, row + labels) - row);
        for (auto p = row; p != row + labels; ++p) std::printf(" %.9g", *p);
        std::printf("\n");
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
