#include "layer_formats_file.h"

#include <gtest/gtest.h>

#include "process.h"

namespace larder {
namespace {

TEST(ReadLayerFormats, TextIsWhatItSays) {
  EXPECT_EQ(read_layer_formats("").value(), "");
  EXPECT_EQ(read_layer_formats("0-1:bf16,2-:rot4/int4").value(), "0-1:bf16,2-:rot4/int4");
}

TEST(ReadLayerFormats, AFileHasEntriesApartByLinesBlanksOrCommas) {
  const std::string path = temporary_file(
      "layers", "# made by hand\r\n0:bf16 , 1:rot8\r\n\n  2-3:rot4/int4# the rest\n,,4-:rot3");
  EXPECT_EQ(read_layer_formats("@" + path).value(), "0:bf16,1:rot8,2-3:rot4/int4,4-:rot3");
}

TEST(ReadLayerFormats, RefusesWhatNamesNothing) {
  const auto message = [](const std::string& text) {
    const auto formats = read_layer_formats(text);
    return formats ? "" : formats.error().message;
  };
  const std::string empty = temporary_file("empty-layers", "# nothing\n, \n");
  EXPECT_EQ(message("@" + empty).find(empty + " names no layers"), 0U);
  EXPECT_NE(message("@/nonexistent").find("/nonexistent"), std::string::npos);
  EXPECT_EQ(message("@"), "behind @ stands no name of a file");
  const std::string bytes = temporary_file("bytes-as-layers", std::string("0:bf16\0", 7));
  EXPECT_NE(message("@" + bytes).find("NUL"), std::string::npos);
  const std::string marked = temporary_file("marked-layers",
                                            "\xef\xbb\xbf"
                                            "0:bf16\n");
  EXPECT_EQ(read_layer_formats("@" + marked).value(), "0:bf16");
  const std::string large = temporary_file("large-layers", std::string((1 << 20) + 1, ' '));
  EXPECT_NE(message("@" + large).find(large), std::string::npos);
}

}  // namespace
}  // namespace larder
