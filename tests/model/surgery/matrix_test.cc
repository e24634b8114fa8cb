#include "model/surgery/matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <random>

namespace larder {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix out(rows, cols);
  for (double& x : out.values) x = normal(random);
  return out;
}

void expect_near(const Matrix& a, const Matrix& b, double tolerance) {
  ASSERT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.cols, b.cols);
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    ASSERT_NEAR(a.values[i], b.values[i], tolerance) << i;
  }
}

TEST(Matrix, ProductsFollowTheFormula) {
  const Matrix a = random_matrix(3, 5, 1), b = random_matrix(5, 4, 2);
  const Matrix product = multiply(a, b);
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t c = 0; c < 4; ++c) {
      double sum = 0;
      for (std::size_t i = 0; i < 5; ++i) sum += a(r, i) * b(i, c);
      EXPECT_NEAR(product(r, c), sum, 1e-12);
    }
  }
  expect_near(multiply_transposed(a, transposed(b)), product, 1e-12);
  expect_near(rows_of(product, 1, 2), multiply(rows_of(a, 1, 2), b), 1e-12);
  expect_near(columns_of(product, 1, 2), multiply(a, columns_of(b, 1, 2)), 1e-12);
}

TEST(Matrix, SymmetricEigenvectorsAreInRowsByFallingValue) {
  const Matrix half = random_matrix(7, 4, 3);
  const Matrix a = multiply_transposed(half, half);  // rank 4
  const SymmetricEigen eigen = eigen_symmetric(a);
  for (std::size_t j = 1; j < 7; ++j) EXPECT_GE(eigen.values[j - 1], eigen.values[j]);
  EXPECT_NEAR(eigen.values[4], 0, 1e-12);
  Matrix identity(7, 7), scaled = eigen.vectors;
  for (std::size_t j = 0; j < 7; ++j) {
    identity(j, j) = 1;
    for (double& x : scaled.row(j)) x *= eigen.values[j];
  }
  expect_near(multiply_transposed(eigen.vectors, eigen.vectors), identity, 1e-12);
  expect_near(multiply(transposed(eigen.vectors), scaled), a, 1e-11);
}

TEST(Matrix, HermitianEigenvectorsSolveTheEquation) {
  const std::size_t n = 5;
  const Matrix x = random_matrix(n, n, 4), y = random_matrix(n, n, 5);
  Matrix re(n, n), im(n, n);
  for (std::size_t r = 0; r < n; ++r) {
    for (std::size_t c = 0; c < n; ++c) {
      re(r, c) = x(r, c) + x(c, r);
      im(r, c) = y(r, c) - y(c, r);
    }
  }
  const HermitianEigen eigen = eigen_hermitian(re, im);
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t r = 0; r < n; ++r) {
      std::complex<double> sum;
      for (std::size_t c = 0; c < n; ++c) {
        sum += std::complex(re(r, c), im(r, c)) * std::complex(eigen.re(j, c), eigen.im(j, c));
      }
      const std::complex<double> own(eigen.re(j, r), eigen.im(j, r));
      EXPECT_NEAR(std::abs(sum - eigen.values[j] * own), 0, 1e-11);
    }
  }
}

TEST(Matrix, RootsOfSingularMatrices) {
  const Matrix half = random_matrix(6, 3, 6);
  const Matrix a = multiply_transposed(half, half);
  const RootPair pair = symmetric_root(a);
  expect_near(multiply(pair.root, pair.root), a, 1e-11);
  expect_near(multiply(multiply(pair.root, pair.inverse), a), a,
              1e-10);  // a projection on its range
  const RootPair zero = symmetric_root(Matrix(3, 3));
  expect_near(zero.root, Matrix(3, 3), 0);
  expect_near(zero.inverse, Matrix(3, 3), 0);
}

}  // namespace
}  // namespace larder
