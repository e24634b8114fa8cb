#include "bench_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "svg_text.h"

namespace larder {
namespace {

using Json = nlohmann::json;

constexpr double kWidth = 720, kPanelHeight = 300, kLeft = 64, kRight = 24, kTop = 40, kBottom = 48;
constexpr int kTicks = 5;
constexpr std::size_t kColours = 6;
constexpr std::string_view kStyle =
    "<style>text{font:13px system-ui,sans-serif;fill:#24292f}.grid{stroke:#8884}.axis{stroke:#888}"
    ".limit{stroke:#888;stroke-dasharray:5 4;fill:none}.s{fill:none;stroke-width:2.5}"
    ".c0{stroke:#0969da}.c1{stroke:#d1570b}.c2{stroke:#1a7f37}.c3{stroke:#8250df}.c4{stroke:#"
    "bf3989}"
    ".c5{stroke:#7d6608}circle{fill:#fff;stroke-width:2.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}circle{fill:#0d1117}}</style>\n";

/// A round number of which about kTicks make up `most`.
double tick_step(double most) {
  const double rough = std::max(most, 1e-9) / kTicks;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

/// Places of one panel's values on the picture.
struct Panel {
  double top = 0, most_depth = 1, most_rate = 1;

  double x(double depth) const { return kLeft + depth / most_depth * (kWidth - kLeft - kRight); }
  double y(double rate) const {
    const double height = kPanelHeight - kTop - kBottom;
    return top + kTop + height * (1 - rate / most_rate);
  }
};

std::string grid(const Panel& panel, std::string_view title) {
  std::string svg = fmt::format("<text x=\"{}\" y=\"{:.1f}\">{}: tokens/s against depth</text>\n",
                                kLeft, panel.top + 20, xml_text(title));
  const double rate_step = tick_step(panel.most_rate), depth_step = tick_step(panel.most_depth);
  for (double rate = 0; rate <= panel.most_rate * 1.001; rate += rate_step) {
    const double y = panel.y(rate);
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
        kLeft, kWidth - kRight, y, y, kLeft - 8, y + 4, rate);
  }
  for (double depth = 0; depth <= panel.most_depth * 1.001; depth += depth_step) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:g}</text>\n",
                       panel.x(depth), panel.y(0) + 18, depth);
  }
  return svg +
         fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>\n",
                     kLeft, kWidth - kRight, panel.y(0), panel.y(0));
}

std::string curve(const Panel& panel, const std::vector<ChartPoint>& points, std::size_t n) {
  std::string path, circles;
  const std::size_t colour = n % kColours;
  for (const ChartPoint& point : points) {
    const double x = panel.x(point.depth), y = panel.y(point.rate);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
    circles += fmt::format(
        "<circle class=\"c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\"><title>{}: {:.1f} tokens/s at "
        "depth {}</title></circle>",
        colour, x, y, xml_text(point.series), point.rate, point.depth);
  }
  return fmt::format("<polyline class=\"s c{}\" points=\"{}\"/>{}\n", colour, path, circles);
}

double limit_at(const BandwidthLimit& limit, double depth) {
  return limit.bytes_per_second / (limit.weights_bytes + depth * limit.kv_bytes_per_token);
}

std::string limit_curve(const Panel& panel, const BandwidthLimit& limit) {
  std::string path;
  constexpr int kSteps = 60;
  for (int i = 0; i <= kSteps; ++i) {
    const double depth = panel.most_depth * i / kSteps;
    path += fmt::format("{}{:.1f},{:.1f}", i == 0 ? "" : " ", panel.x(depth),
                        panel.y(limit_at(limit, depth)));
  }
  return fmt::format("<polyline class=\"limit\" points=\"{}\"/>\n", path);
}

std::string legend(const Panel& panel, const std::vector<std::string>& names, bool with_limit) {
  std::string svg;
  double y = panel.top + kTop + 8;
  const auto line = [&](const std::string& style, std::string_view name) {
    svg += fmt::format(
        "<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        style, kWidth - kRight - 34, kWidth - kRight - 6, y, y, kWidth - kRight - 42, y + 4,
        xml_text(name));
    y += 18;
  };
  for (std::size_t i = 0; i < names.size(); ++i) line(fmt::format("s c{}", i % kColours), names[i]);
  if (with_limit) line("limit", "limit of the memory's bandwidth");
  return svg;
}

using Series = std::map<std::string, std::vector<ChartPoint>>;

std::string draw_panel(double top, std::string_view title, Series& series,
                       const BandwidthLimit& limit) {
  Panel panel{.top = top};
  const bool with_limit = title == "decode" && limit.bytes_per_second > 0;
  for (auto& entry : series) {
    auto& points = entry.second;
    std::sort(points.begin(), points.end(),
              [](const ChartPoint& a, const ChartPoint& b) { return a.depth < b.depth; });
    for (const ChartPoint& point : points) {
      panel.most_depth = std::max(panel.most_depth, static_cast<double>(point.depth));
      panel.most_rate = std::max(panel.most_rate, point.rate);
    }
  }
  if (with_limit) panel.most_rate = std::max(panel.most_rate, limit_at(limit, 0));
  panel.most_rate *= 1.05;
  std::string svg = grid(panel, title);
  if (with_limit) svg += limit_curve(panel, limit);
  std::vector<std::string> names;
  for (const auto& entry : series) {
    svg += curve(panel, entry.second, names.size());
    names.push_back(entry.first);
  }
  return svg + legend(panel, names, with_limit);
}

}  // namespace

Result<std::vector<ChartPoint>> chart_points(std::string_view json_text, std::string_view origin) {
  const Json list = Json::parse(json_text, nullptr, false);
  if (!list.is_array()) {
    return fail(Errc::invalid_argument, "{}: no JSON list, as `bench -o json` writes it", origin);
  }
  std::vector<ChartPoint> points;
  for (const Json& entry : list) try {
      const auto n_prompt = entry.at("n_prompt").get<std::uint32_t>();
      const auto n_gen = entry.at("n_gen").get<std::uint32_t>();
      const auto n_parallel = entry.at("n_parallel").get<std::uint32_t>();
      const auto type_k = entry.at("type_k").get<std::string>();
      const auto type_v = entry.at("type_v").get<std::string>();
      if (n_prompt > 0 && n_gen > 0) continue;  // a mixture has no place on these axes
      ChartPoint point;
      point.series = entry.value("engine", "Larder") + ", " + type_k;
      if (type_v != type_k) point.series += "/" + type_v;
      point.panel = n_gen > 0 ? "decode" : fmt::format("prefill {}", n_prompt);
      if (n_parallel > 1) point.panel += fmt::format(", {} sequences", n_parallel);
      point.depth = entry.at("n_depth").get<std::uint32_t>();
      point.rate = entry.at("median_ts").get<double>();
      if (!std::isfinite(point.rate) || point.rate < 0) {
        return fail(Errc::invalid_argument, "{}: median_ts is {}", origin, point.rate);
      }
      points.push_back(std::move(point));
    } catch (const Json::exception& error) {
      return fail(Errc::invalid_argument, "{}: {}", origin, error.what());
    }
  return points;
}

std::string bench_chart(std::span<const ChartPoint> points, const BandwidthLimit& limit) {
  std::map<std::string, Series> panels;
  for (const ChartPoint& point : points) panels[point.panel][point.series].push_back(point);
  std::string body;
  double top = 0;
  for (auto& entry : panels) {
    body += draw_panel(top, entry.first, entry.second, limit);
    top += kPanelHeight;
  }
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" "
             "role=\"img\">\n",
             kWidth, top, kWidth) +
         std::string(kStyle) + body + "</svg>\n";
}

}  // namespace larder
