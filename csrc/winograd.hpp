// The 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3), exact on integers: a quarter of the multiplications.
//
// Y = A^T [(G g G^T) * (B^T d B)] A (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). G has
// fractions; each of its rows is multiplied by the number that makes it whole (4, -6, -6, 24, 24, 1) and its column of
// A^T by 24 over that number, so that everything is an integer and the result is 24 * 24 = 576 times the sum.
// |B^T d B| <= 100 * 128 and |G g G^T| <= 49 * 128 fit int16. All that follows is computed modulo 2^32, where it may
// wrap: 576 = 9 * 2^6, nine has an inverse modulo 2^32, and so the lowest 26 bits of the sum come back. Hence it is
// exact for |sum| < 2^25, which `is_exact` makes sure of whatever the input.
#pragma once

#include <cstdint>
#include <vector>

#include "conv.hpp"
#include "packed.hpp"

namespace lowwatt {

class WinogradConvolution : public ConvolutionMethod {
public:
    static bool is_exact(const int8_t* weights, const ConvShape& shape);
    static bool pays(const ConvShape& shape, const Kernel& kernel, MapSize size);

    WinogradConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                        const Kernel& kernel);
    const char* name() const override { return "winograd"; }
    void run(const int8_t* x, int64_t height, int64_t width, int8_t* out) const override;

private:
    struct Job;

    void pack(const int8_t* weights);
    int64_t tiles_together(int64_t tiles) const;
    int64_t transformed_stride(int64_t tiles) const;
    int64_t products_stride(int64_t tiles) const;
    int64_t tile_products() const;
    void transform_inputs(Job& job) const;
    void multiply(Job& job, int64_t first_panel, int panels) const;
    void transform_outputs(const Job& job, int64_t panel, int index) const;
    int64_t position_bytes() const { return pair_words_ * panel_word_bytes; }

    ConvShape shape_;
    Epilogue epilogue_;
    const Kernel& kernel_;
    int64_t pair_words_;       // of one tile and position
    int64_t channel_stride_;   // int16 values of one tile and position
    int64_t panels_;
    std::vector<int32_t> bias_;
    PackedWeights weights_;  // [panel][position][pair][channel][2]
};

}  // namespace lowwatt
