#include "task_chart.h"

#include <fmt/format.h>

#include <algorithm>

#include "svg_text.h"

namespace larder {
namespace {

constexpr double kWidth = 760, kLeft = 240, kRight = 60, kTop = 52, kRow = 30, kBar = 11;

double length(double share) { return std::clamp(share, 0.0, 1.0) * (kWidth - kLeft - kRight); }

std::string bar(const char* kind, double y, double share) {
  return fmt::format(
      "<rect class=\"{}\" x=\"{}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>"
      "<text x=\"{:.1f}\" y=\"{:.1f}\">{:.0f} %</text>\n",
      kind, kLeft, y, length(share), kBar, kLeft + length(share) + 4, y + kBar - 1, 100 * share);
}

std::string row(const TaskBars& bars, double y) {
  std::string svg = fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
                                kLeft - 8, y + kBar + 4, xml_text(bars.name));
  if (bars.hidden) svg += bar("hidden", y, *bars.hidden);
  if (bars.visible) svg += bar("visible", y + kBar + 1, *bars.visible);
  return svg;
}

}  // namespace

std::string task_chart(std::span<const TaskBars> rows, const std::string& title) {
  std::string body = fmt::format(
      "<text x=\"8\" y=\"18\">{}</text>\n"
      "<rect class=\"hidden\" x=\"{}\" y=\"28\" width=\"12\" height=\"11\"/>"
      "<text x=\"{}\" y=\"38\">question hidden</text>\n"
      "<rect class=\"visible\" x=\"{}\" y=\"28\" width=\"12\" height=\"11\"/>"
      "<text x=\"{}\" y=\"38\">question visible</text>\n",
      xml_text(title), kLeft, kLeft + 18, kLeft + 170, kLeft + 188);
  double y = kTop;
  for (const TaskBars& bars : rows) {
    body += row(bars, y);
    y += kRow;
  }
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1:.0f}\" width=\"{0}\" "
             "role=\"img\">\n"
             "<style>text{{font:12px system-ui,sans-serif;fill:#24292f}}.hidden{{fill:#0969da}}"
             ".visible{{fill:#bf8700}}"
             "@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>\n",
             kWidth, y + 12) +
         body + "</svg>\n";
}

}  // namespace larder
