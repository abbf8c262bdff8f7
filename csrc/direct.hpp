// The convolution as it is written: each output pixel reads its window through tiles, without an im2col.
#pragma once

#include <cstdint>
#include <vector>

#include "conv.hpp"
#include "packed.hpp"

namespace lowwatt {

class DirectConvolution : public ConvolutionMethod {
public:
    DirectConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                      const Kernel& kernel);
    const char* name() const override { return "direct"; }
    void run(const int8_t* x, int64_t height, int64_t width, int8_t* out) const override;

private:
    // What is left to do of one map.
    struct Job {
        const char* input;
        int64_t row_bytes, pixel_bytes, out_w;
        std::vector<Segment> segments;
        int8_t* out;
    };

    void pack(const int8_t* weights, const int32_t* bias);
    template <typename T>
    void run_as(const int8_t* x, int64_t height, int64_t width, int8_t* out) const;
    void run_block(const Job& job, int64_t first, int64_t count) const;
    void run_panels(const Job& job, const char* const* bases, int64_t count, int64_t first_panel, int panels,
                    int64_t channels, int8_t* out) const;
    std::vector<Segment> segments(int64_t row_bytes, int64_t pixel_bytes) const;
    int64_t panel_bytes() const { return runs_ * run_words_ * panel_word_bytes; }

    ConvShape shape_;
    Epilogue epilogue_;
    const Kernel& kernel_;
    int64_t run_columns_;   // columns of the kernel whose values lie side by side: a run
    int64_t run_words_;     // of one run, the last filled up with weights of zero
    int64_t runs_;          // of one kernel
    int64_t group_panels_;  // panels of one group
    std::vector<int32_t> bias_;
    PackedWeights weights_;  // [group][panel][run][word][channel][value]
};

}  // namespace lowwatt
