// SPDX-License-Identifier: GPL-2.0-only
/*
 * What no process can bring about whenever a test wants it. In debugfs, blktap_test/:
 *
 *   late        a file whose reads have ended before the function that started them returns, a
 *               second later: as when the I/O of a file system ends on another CPU. It moves no
 *               data
 *   started     reads of it, so far
 *   recycled    of these, those whose kiocb was put to another use before that return
 *   references  ADDRESS COUNT, written to it: so many references to the page at that address of
 *               the writing process, until the file is closed
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/page_ref.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#define LATE_MS 1000

static struct dentry *directory;
static atomic_t started = ATOMIC_INIT(0);
static atomic_t recycled = ATOMIC_INIT(0);

static int open_late(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return 0;
}

static ssize_t read_late(struct kiocb *iocb, struct iov_iter *data)
{
	const struct kiocb before = *iocb;

	iocb->ki_complete(iocb, iov_iter_count(data));
	atomic_inc(&started);
	msleep(LATE_MS);
	if (iocb->ki_filp != before.ki_filp || iocb->ki_pos != before.ki_pos ||
	    iocb->ki_complete != before.ki_complete)
		atomic_inc(&recycled);
	return -EIOCBQUEUED;
}

static ssize_t refuse_write(struct kiocb *iocb, struct iov_iter *data)
{
	return -EOPNOTSUPP;
}

static const struct file_operations late_operations = {
	.owner = THIS_MODULE,
	.open = open_late,
	.read_iter = read_late,
	.write_iter = refuse_write,
};

struct held {
	struct page *page;
	int count;
};

static int open_references(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc(sizeof(struct held), GFP_KERNEL);
	return file->private_data ? 0 : -ENOMEM;
}

static ssize_t hold(struct file *file, const char __user *text, size_t bytes, loff_t *position)
{
	struct held *held = file->private_data;
	unsigned long address;
	struct page *page;
	char line[64];
	int count;

	if (held->page || bytes >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, bytes))
		return -EFAULT;
	line[bytes] = '\0';
	if (sscanf(line, "%lx %d", &address, &count) != 2)
		return -EINVAL;
	if (get_user_pages_fast(address, 1, 0, &page) != 1)
		return -EFAULT;
	/* One of them is there already. */
	page_ref_add(page, count - 1);
	*held = (struct held){ page, count };
	return bytes;
}

static int let_go(struct inode *inode, struct file *file)
{
	struct held *held = file->private_data;

	if (held->page) {
		page_ref_sub(held->page, held->count - 1);
		put_page(held->page);
	}
	kfree(held);
	return 0;
}

static const struct file_operations references_operations = {
	.owner = THIS_MODULE,
	.open = open_references,
	.write = hold,
	.release = let_go,
};

static int __init load(void)
{
	directory = debugfs_create_dir("blktap_test", NULL);
	if (IS_ERR(directory))
		return PTR_ERR(directory);
	/* As it is, for the wrapper of other files has no read_iter. */
	debugfs_create_file_unsafe("late", 0600, directory, NULL, &late_operations);
	debugfs_create_file("references", 0200, directory, NULL, &references_operations);
	debugfs_create_atomic_t("started", 0400, directory, &started);
	debugfs_create_atomic_t("recycled", 0400, directory, &recycled);
	return 0;
}

static void __exit unload(void)
{
	debugfs_remove(directory);
}

module_init(load);
module_exit(unload);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("What tests of blktap need of the kernel");
