#include "model/io/output_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch_dir.h"

namespace larder {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Error error_of(const std::string& path) {
  const auto out = OutputFile::create(path);
  return out ? Error{Errc::io, "no error"} : out.error();
}

std::size_t n_entries(const ScratchDir& dir) {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) ++n;
  return n;
}

void write(const std::string& path, std::string_view text) {
  auto out = OutputFile::create(path);
  ASSERT_TRUE(out) << out.error().message;
  ASSERT_TRUE(out->write(text.data(), text.size()));
  ASSERT_TRUE(out->finish());
}

TEST(OutputFile, AppearsAtTheEndOnly) {
  const ScratchDir dir;
  dir.write("x", "old");
  {
    auto out = OutputFile::create(dir.path("x"));
    ASSERT_TRUE(out);
    ASSERT_TRUE(out->write("new", 3));
    EXPECT_EQ(dir.read("x"), "old");
    EXPECT_EQ(n_entries(dir), 2U);
  }
  EXPECT_EQ(dir.read("x"), "old");
  EXPECT_EQ(n_entries(dir), 1U);
  write(dir.path("x"), "new");
  EXPECT_EQ(dir.read("x"), "new");
  EXPECT_EQ(n_entries(dir), 1U);
}

TEST(OutputFile, TwoWritersDoNotMix) {
  const ScratchDir dir;
  auto one = OutputFile::create(dir.path("x")), two = OutputFile::create(dir.path("x"));
  ASSERT_TRUE(one && two);
  ASSERT_TRUE(one->write("one", 3));
  ASSERT_TRUE(two->write("three", 5));
  ASSERT_TRUE(one->finish());
  EXPECT_EQ(dir.read("x"), "one");
  ASSERT_TRUE(two->finish());
  EXPECT_EQ(dir.read("x"), "three");
  EXPECT_EQ(n_entries(dir), 1U);
}

TEST(OutputFile, ReplacesWhatALinkPointsTo) {
  const ScratchDir dir;
  dir.write("file", "old");
  std::filesystem::create_symlink("file", dir.path("link"));
  std::filesystem::create_symlink(dir.path("link"), dir.path("link2"));
  std::filesystem::create_symlink("later", dir.path("dangling"));
  write(dir.path("link2"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir.path("link2")));
  EXPECT_TRUE(std::filesystem::is_symlink(dir.path("link")));
  EXPECT_EQ(dir.read("file"), "new");
  write(dir.path("dangling"), "made");
  EXPECT_TRUE(std::filesystem::is_symlink(dir.path("dangling")));
  EXPECT_EQ(dir.read("later"), "made");
}

TEST(OutputFile, RefusesWhatIsNoFile) {
  const ScratchDir dir;
  ASSERT_EQ(::mkfifo(dir.path("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", dir.path("link"));
  for (const std::string& path : {dir.path("pipe"), dir.path("link"), dir.path()}) {
    const Error error = error_of(path);
    EXPECT_EQ(error.code, Errc::invalid_argument) << path;
    EXPECT_THAT(error.message, StartsWith(path + ": is a "));
  }
  EXPECT_TRUE(std::filesystem::is_fifo(dir.path("pipe")));
  EXPECT_EQ(error_of("").code, Errc::invalid_argument);
}

TEST(OutputFile, NamesThePathOfTheUser) {
  const ScratchDir dir;
  const std::string path = dir.path("none/x.gguf");
  EXPECT_EQ(error_of(path).code, Errc::not_found);
  EXPECT_EQ(error_of(path).message, path + ": cannot be written: No such file or directory");
  dir.write("file", "");
  EXPECT_EQ(error_of(dir.path("file/x.gguf")).code, Errc::not_found);
  std::filesystem::create_symlink("loop", dir.path("loop"));
  EXPECT_EQ(error_of(dir.path("loop")).code, Errc::invalid_argument);
  EXPECT_EQ(error_of(dir.path(std::string(400, 'x'))).code, Errc::invalid_argument);
}

}  // namespace
}  // namespace larder
